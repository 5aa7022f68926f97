"""The configuration: typed, from a file, with changes from the command line; every key is checked.

`config.toml` shows all keys. A part that is chosen by its name (`[model]`, `[optimizer]`, …) has the
arguments of what is named beside it, and they are checked against what that takes.
"""

import dataclasses
import difflib
import inspect
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import old_config


class ConfigError(Exception):
    """The user asked for something that cannot be; the message is one sentence."""


@dataclass(frozen=True)
class Choice:
    """Something by its name, with its arguments; `off` where there may be none."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    name: str
    root: str = "datasets"  # where downloads and copies go
    shards: str = ""  # a data set in shards, on a mounted Drive say, to copy there first
    valid: float = 0.1  # of the training data
    augment: bool = True
    batch_size: int  # of one step: split among processes and among `trainer.accumulate` parts
    workers: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    epochs: int
    accumulate: int = 1
    clip_norm: float = 0.0  # 0: gradients stay as they are
    precision: str = "auto"
    compile: bool = False
    deterministic: bool = True
    monitor: str = "off"  # such as "max valid_accuracy"
    early_stop: int = 0  # epochs without a new best; 0: never
    save_every: int = 0  # steps, beside each epoch's end; 0: never
    keep: int = 3
    log_every: int = 10
    tensorboard: bool = True
    plots: bool = True


@dataclass(frozen=True, kw_only=True)
class Config:
    name: str
    seed: int = 0
    device: str = "auto"
    metrics: list[str]
    data: DataConfig
    model: Choice
    loss: Choice
    optimizer: Choice
    scheduler: Choice = Choice("off")
    trainer: TrainerConfig

    def to_json(self) -> str:
        return json.dumps(to_plain(self), indent=2) + "\n"


# --- Reading ---------------------------------------------------------------------------------------


def read(path: Path, changes: Iterable[str]) -> Config:
    """The configuration in a file, with changes such as `optimizer.lr=0.01`."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
    except ValueError as exc:  # Not UTF-8, not TOML or not JSON.
        raise ConfigError(f"cannot read {path}: {exc}") from exc
    if old_config.is_old(values):
        values, told = old_config.translate(values)
        print(*(f"{path}: {line}" for line in told), sep="\n")
    for change in changes:
        apply(change, values)
    config = from_plain(Config, values)
    check(config)
    return config


def apply(change: str, values: dict[str, Any]) -> None:
    """Put a change in its place; its value is read as in TOML, and else taken as a text."""
    dotted, equals, text = change.partition("=")
    if not equals:
        raise ConfigError(f"{change!r} is no change: write KEY=VALUE, such as trainer.epochs=20")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, key = dotted.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"unknown key {dotted}: {parent} has nothing below it")
    values[key] = value


def from_plain(kind: Any, value: Any, where: str = "") -> Any:
    """`value`, as the file has it, as a `kind`; `where` is its dotted key."""
    if kind is Choice and isinstance(value, dict) and isinstance(value.get("name"), str):
        return Choice(value["name"], {key: value[key] for key in value if key != "name"})
    if dataclasses.is_dataclass(kind) and kind is not Choice and isinstance(value, dict):
        hints, prefix = get_type_hints(kind), f"{where}." if where else ""
        for key in value:
            if key not in hints:
                raise ConfigError(
                    unknown("key", f"{prefix}{key}", [f"{prefix}{name}" for name in hints])
                )
        for key in dataclasses.fields(kind):
            if key.name not in value and key.default is dataclasses.MISSING:
                raise ConfigError(f"{prefix}{key.name} is missing from the configuration")
        return kind(**{key: from_plain(hints[key], value[key], f"{prefix}{key}") for key in value})
    if kind is float and type(value) is int:
        value = float(value)
    if kind == list[str] and isinstance(value, list) and all(type(one) is str for one in value):
        return value
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ConfigError(f"{where or 'the file'} must be {WORDS[kind]}, not {value!r}")
    return value


WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list[str]: "a list of names",
    Choice: "a table with a name",
    DataConfig: "a table",
    TrainerConfig: "a table",
    Config: "a table",
}


def to_plain(value: Any) -> Any:
    """The other way round: what JSON can hold."""
    if isinstance(value, Choice):
        return {"name": value.name, **value.arguments}
    if dataclasses.is_dataclass(value):
        return {key.name: to_plain(getattr(value, key.name)) for key in dataclasses.fields(value)}
    return value


def flat(value: Any, where: str = "") -> dict[str, Any]:
    """Values by their dotted keys."""
    if not isinstance(value, dict):
        return {where: value}
    below = (flat(child, f"{where}.{key}" if where else key) for key, child in value.items())
    return {key: one for part in below for key, one in part.items()}


# --- Checking --------------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Refuse values that cannot be, alone or beside each other."""
    data, trainer = config.data, config.trainer
    direction, _, watched = trainer.monitor.partition(" ")
    results = [
        f"{part}_{name}" for part in ("train", "valid") for name in ("loss", *config.metrics)
    ]
    rules = [
        (config.name not in ("", ".", "..") and "/" not in config.name, "name must name a folder"),
        (0 <= config.seed < 2**32, "seed must be from 0 to 4294967295"),
        (config.device in ("auto", "cuda", "mps", "cpu"), "device must be auto, cuda, mps or cpu"),
        (0 < data.valid < 1, "data.valid must be between 0 and 1"),
        (data.batch_size >= 1, "data.batch_size must be at least 1"),
        (data.workers >= 0, "data.workers must be at least 0"),
        (trainer.epochs >= 1, "trainer.epochs must be at least 1"),
        (trainer.accumulate >= 1, "trainer.accumulate must be at least 1"),
        (trainer.log_every >= 1, "trainer.log_every must be at least 1"),
        (trainer.save_every >= 0, "trainer.save_every must be at least 0"),
        (trainer.early_stop >= 0, "trainer.early_stop must be at least 0"),
        (trainer.keep >= 2, "trainer.keep must be at least 2: the newest may be damaged tomorrow"),
        (trainer.clip_norm >= 0, "trainer.clip_norm must be at least 0"),
        (
            trainer.precision in ("auto", "fp32", "bf16", "fp16"),
            "trainer.precision must be auto, fp32, bf16 or fp16",
        ),
        (
            data.batch_size % trainer.accumulate == 0,
            f"data.batch_size {data.batch_size} cannot be split into trainer.accumulate"
            f" {trainer.accumulate} equal parts",
        ),
        (
            trainer.monitor == "off" or (direction in ("min", "max") and watched in results),
            f"trainer.monitor must be off, or min or max and one of {', '.join(results)}",
        ),
        (
            trainer.early_stop == 0 or trainer.monitor != "off",
            "trainer.early_stop needs something to watch: set trainer.monitor",
        ),
    ]
    for holds, sentence in rules:
        if not holds:
            raise ConfigError(sentence)


# What may be another in a run that goes on: it changes no weight before the end.
MAY_CHANGE = {"name", "device", "data.root", "data.shards", "data.workers", "trainer.epochs"}
MAY_CHANGE |= {"trainer.early_stop", "trainer.keep", "trainer.plots", "trainer.save_every"}
MAY_CHANGE |= {"trainer.tensorboard"}


def check_same_run(config: Config, saved: str) -> None:
    """Refuse to go on with a run of another configuration, given as its JSON."""
    old, new = flat(json.loads(saved)), flat(to_plain(config))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and key not in MAY_CHANGE:
            raise ConfigError(f"its run had {key} = {json.dumps(old.get(key))}")


# --- Building what is chosen by its name -------------------------------------------------------------


def build(where: str, choice: Choice, known: Mapping[str, Callable[..., Any]], *given: Any) -> Any:
    """What `choice` names of the `known`, made of what is `given` and of its own arguments."""
    if choice.name not in known:
        raise ConfigError(unknown(f"{where}.name", choice.name, known))
    make = known[choice.name]
    accepted = list(inspect.signature(make).parameters)[len(given) :]
    for key in choice.arguments:
        if key not in accepted:
            keys = [f"{where}.{name}" for name in accepted]
            raise ConfigError(unknown(f"key of {choice.name}", f"{where}.{key}", keys))
    try:
        return make(*given, **choice.arguments)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"{where}: {choice.name} does not take these values: {exc}") from exc


def subclasses(module: Any, base: type) -> dict[str, Callable[..., Any]]:
    """What a module has to choose from."""
    found = {name: made for name, made in vars(module).items() if inspect.isclass(made)}
    return {name: made for name, made in found.items() if issubclass(made, base) and made != base}


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """The sentence for a name that is none, with the one that was probably meant."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, 1)
    meant = f"did you mean {names[near[0]]}?" if near else f"known: {', '.join(names.values())}"
    return f"unknown {kind} {word}: {meant}"
