"""The configuration: typed, from a file, with changes from the command line; every key is checked.

`config.toml` shows all keys. A table with a `name` (`[model]`, `[optimizer]`, …) chooses a class, and
its other keys are the arguments of that class.
"""

import difflib
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import old_config
from trainer import processes


class ConfigError(Exception):
    """The user asked for something that cannot be; the message is one sentence."""


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Named(Table, extra="allow"):
    """A class by its `name`, with the arguments for it."""

    name: str


class Data(Table):
    name: str
    root: str = "datasets"
    shards: str = ""
    valid: float = Field(0.1, gt=0, lt=1)
    batch_size: int = Field(ge=1)
    workers: int = Field(0, ge=0)


class Training(Table):
    epochs: int = Field(ge=1)
    accumulate: int = Field(1, ge=1)
    clip_norm: float = Field(0.0, ge=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    deterministic: bool = True
    monitor: str = "off"
    early_stop: int = Field(0, ge=0)
    save_every: int = Field(0, ge=0)
    keep: int = Field(3, ge=2)
    log_every: int = Field(10, ge=1)
    tensorboard: bool = True
    plots: bool = True


class Config(Table):
    name: str = Field(pattern=r"^\w[\w .-]*$")  # as a folder may be called
    seed: int = Field(0, ge=0, lt=2**32)
    device: Literal["auto", "cuda", "cpu"] = "auto"
    metrics: list[str]
    data: Data
    model: Named
    loss: Named
    optimizer: Named
    scheduler: Named = Named(name="off")
    trainer: Training

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


# --- Reading ---------------------------------------------------------------------------------------


def read(path: Path, changes: Iterable[str] = ()) -> Config:
    """The configuration in a file, with changes such as `optimizer.lr=0.01`."""
    try:
        text = path.read_text(encoding="utf-8")
        values = dict(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
        if old_config.is_old(values):
            values, told = old_config.translate(values)
            print(*(f"{path}: {line}" for line in told), sep="\n")
    except (OSError, ValueError, TypeError, AttributeError) as exc:  # Not there, or not so.
        raise ConfigError(f"cannot read {path}: {getattr(exc, 'strerror', exc)}") from exc
    for change in changes:
        apply(change, values)
    try:
        config = Config.model_validate(values)
    except ValidationError as exc:
        raise ConfigError(sentence(exc.errors()[0])) from exc
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


def sentence(error: Mapping[str, Any]) -> str:
    """What pydantic found to be wrong."""
    *parents, _ = error["loc"]
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        table: Any = Config
        for parent in parents:
            table = table.model_fields[parent].annotation
        return unknown("key", key, [".".join([*parents, name]) for name in table.model_fields])
    if error["type"] == "missing":
        return f"{key} is missing from the configuration"
    rule = re.sub(r"^\w+ should", "must", error["msg"])
    return f"{key} {rule}, not {error['input']!r}"


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
FREE = {"name", "device", "data.root", "data.shards", "data.workers", "trainer.tensorboard"}
FREE |= {f"trainer.{key}" for key in ("epochs", "early_stop", "keep", "plots", "save_every")}


def check_same_run(config: Config, saved: str) -> None:
    """Refuse to go on with a run of another configuration, given as its JSON."""
    old, new = flat(json.loads(saved)), flat(config.model_dump(mode="json"))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and key not in FREE:
            raise ConfigError(f"its run had {key} = {json.dumps(old.get(key))}")


def flat(value: Any, where: str = "") -> dict[str, Any]:
    """Values by their dotted keys."""
    if not isinstance(value, dict):
        return {where: value}
    below = (flat(child, f"{where}.{key}" if where else key) for key, child in value.items())
    return {key: one for part in below for key, one in part.items()}


# --- What is chosen by its name ----------------------------------------------------------------------


def build(where: str, choice: Named, known: Mapping[str, Callable[..., Any]], *given: Any) -> Any:
    """What `choice` names of the `known`, made of what is `given` and of its own arguments."""
    make = pick(f"{where}.name", choice.name, known)
    arguments = choice.model_extra or {}
    try:
        return make(*given, **arguments)
    except (TypeError, ValueError) as exc:
        taken = list(inspect.signature(make).parameters)[len(given) :]
        if strange := next((name for name in arguments if name not in taken), ""):
            keys = [f"{where}.{name}" for name in taken]
            raise ConfigError(unknown("key", f"{where}.{strange}", keys)) from exc
        raise ConfigError(f"{where}: {choice.name} does not take these values: {exc}") from exc


def pick(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ConfigError(unknown(kind, name, known))
    return known[name]


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """The sentence for a name that is none, with the one that was probably meant."""
    names = {name.lower().rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(word.lower().rpartition(".")[2], names, 1)
    meant = f"did you mean {names[near[0]]}?" if near else f"known: {', '.join(names.values())}"
    return f"unknown {kind} {word}: {meant}"
