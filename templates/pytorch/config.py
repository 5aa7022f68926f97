"""The configuration: typed, from a file, with changes from the command line; every key is checked.

`config.toml` shows all keys. A part that is chosen by its name (`[model]`, `[optimizer]`, …) has the
arguments of what is named beside it, and they are checked against what that takes.
"""

import difflib
import inspect
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import old_config
from trainer import processes


class ConfigError(Exception):
    """The user asked for something that cannot be; the message is one sentence."""


class Named(dict[str, Any]):
    """Something that is chosen by its `name`, with the arguments for it."""


def ruled(words: str, holds: Callable[[Any], bool], default: Any = MISSING) -> Any:
    """A key whose value must be what the words say."""
    return field(default=default, metadata={"words": words, "holds": holds})


def at_least(least: float, default: Any = MISSING) -> Any:
    return ruled(f"at least {least}", lambda value: value >= least, default)


def one_of(*values: str) -> Any:
    """The first one is the default."""
    words = f"{', '.join(values[:-1])} or {values[-1]}"
    return ruled(words, values.__contains__, values[0])


@dataclass(frozen=True, kw_only=True)
class Data:
    name: str
    root: str = "datasets"
    shards: str = ""
    valid: float = ruled("between 0 and 1", lambda share: 0 < share < 1, 0.1)
    augment: bool = True
    batch_size: int = at_least(1)
    workers: int = at_least(0, 0)


@dataclass(frozen=True, kw_only=True)
class Training:
    epochs: int = at_least(1)
    accumulate: int = at_least(1, 1)
    clip_norm: float = at_least(0, 0.0)
    precision: str = one_of("auto", "fp32", "bf16", "fp16")
    compile: bool = False
    deterministic: bool = True
    monitor: str = "off"
    early_stop: int = at_least(0, 0)
    save_every: int = at_least(0, 0)
    keep: int = at_least(2, 3)
    log_every: int = at_least(1, 10)
    tensorboard: bool = True
    plots: bool = True


@dataclass(frozen=True, kw_only=True)
class Config:
    name: str = ruled("the name of a folder", lambda name: Path(name).name == name != "..")
    seed: int = ruled("from 0 to 4294967295", lambda seed: 0 <= seed < 2**32, 0)
    device: str = one_of("auto", "cuda", "mps", "cpu")
    metrics: list[str]
    data: Data
    model: Named
    loss: Named
    optimizer: Named
    scheduler: Named = field(default_factory=lambda: Named(name="off"))
    trainer: Training

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


# --- Reading ---------------------------------------------------------------------------------------


def read(path: Path, changes: Iterable[str] = ()) -> Config:
    """The configuration in a file, with changes such as `optimizer.lr=0.01`."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as exc:  # Not there; not UTF-8, not TOML or not JSON.
        raise ConfigError(f"cannot read {path}: {getattr(exc, 'strerror', exc)}") from exc
    if not isinstance(values, dict):
        raise ConfigError(f"cannot read {path}: it is no table of keys")
    if old_config.is_old(values):
        values, told = old_config.translate(values)
        print(*(f"{path}: {line}" for line in told), sep="\n")
    for change in changes:
        apply(change, values)
    config = typed(Config, values)
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


def typed(kind: Any, value: Any, where: str = "") -> Any:
    """`value`, as the file has it, as a `kind`; `where` is its dotted key."""
    if is_dataclass(kind) and isinstance(value, dict):
        prefix = f"{where}." if where else ""
        keys = {f"{prefix}{key.name}": key for key in fields(kind)}
        found = {}
        for name, one in value.items():
            if (key := keys.pop(f"{prefix}{name}", None)) is None:
                known = [f"{prefix}{key.name}" for key in fields(kind)]
                raise ConfigError(unknown("key", f"{prefix}{name}", known))
            found[name] = typed(key.type, one, f"{prefix}{name}")
            if key.metadata and not key.metadata["holds"](found[name]):
                raise ConfigError(f"{prefix}{name} must be {key.metadata['words']}")
        for dotted, key in keys.items():
            if key.default is MISSING and key.default_factory is MISSING:
                raise ConfigError(f"{dotted} is missing from the configuration")
        return kind(**found)
    if kind is Named and isinstance(value, dict) and isinstance(value.get("name"), str):
        return Named(value)
    if kind is float and type(value) is int:
        return float(value)
    if kind == list[str] and isinstance(value, list) and all(type(one) is str for one in value):
        return value
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ConfigError(f"{where} must be {WORDS.get(kind, 'a table')}, not {value!r}")
    return value


WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list[str]: "a list of names",
    Named: "a table with a name",
}


def check(config: Config) -> None:
    """Refuse values that contradict each other."""
    data, trainer = config.data, config.trainer
    direction, _, watched = trainer.monitor.partition(" ")
    results = [f"{part}_{key}" for part in ("train", "valid") for key in ("loss", *config.metrics)]
    if data.batch_size % (trainer.accumulate * processes.WORLD):
        raise ConfigError(
            f"data.batch_size {data.batch_size} cannot be split among {processes.WORLD} processes and"
            f" trainer.accumulate {trainer.accumulate} equal parts"
        )
    if trainer.monitor != "off" and (direction not in ("min", "max") or watched not in results):
        raise ConfigError(
            f"trainer.monitor must be off, or min or max and one of {', '.join(results)}"
        )
    if trainer.early_stop and trainer.monitor == "off":
        raise ConfigError("trainer.early_stop needs something to watch: set trainer.monitor")


# What may be another in a run that goes on: it changes no weight before the end.
FREE = {"name", "device", "data.root", "data.shards", "data.workers"}
FREE |= {f"trainer.{key}" for key in ("epochs", "early_stop", "keep", "plots", "save_every")}
FREE |= {"trainer.tensorboard"}


def check_same_run(config: Config, saved: str) -> None:
    """Refuse to go on with a run of another configuration, given as its JSON."""
    old, new = flat(json.loads(saved)), flat(asdict(config))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and key not in FREE:
            raise ConfigError(f"its run had {key} = {json.dumps(old.get(key))}")


def flat(value: Any, where: str = "") -> dict[str, Any]:
    """Values by their dotted keys."""
    if not isinstance(value, dict):
        return {where: value}
    below = (flat(child, f"{where}.{key}" if where else key) for key, child in value.items())
    return {key: one for part in below for key, one in part.items()}


# --- Building what is chosen by its name -------------------------------------------------------------


def build(where: str, choice: Named, known: Mapping[str, Callable[..., Any]], *given: Any) -> Any:
    """What `choice` names of the `known`, made of what is `given` and of its own arguments."""
    make = pick(f"{where}.name", choice["name"], known)
    arguments = {key: value for key, value in choice.items() if key != "name"}
    accepted = list(inspect.signature(make).parameters)[len(given) :]
    for key in arguments:
        if key not in accepted:
            keys = [f"{where}.{name}" for name in accepted]
            raise ConfigError(unknown(f"key of {choice['name']}", f"{where}.{key}", keys))
    try:
        return make(*given, **arguments)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"{where}: {choice['name']} does not take these values: {exc}") from exc


def pick(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ConfigError(unknown(kind, name, known))
    return known[name]


def subclasses(module: Any, base: type) -> dict[str, Callable[..., Any]]:
    """What a module has to choose from."""
    found = {name: made for name, made in vars(module).items() if inspect.isclass(made)}
    return {name: made for name, made in found.items() if issubclass(made, base) and name[0] != "_"}


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """The sentence for a name that is none, with the one that was probably meant."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, 1)
    meant = f"did you mean {names[near[0]]}?" if near else f"known: {', '.join(names.values())}"
    return f"unknown {kind} {word}: {meant}"
