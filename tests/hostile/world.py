"""What a row of the table of bad inputs is, and what it may prepare."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from colabdev.core.job_records import format_job
from colabdev.core.records import format_record
from colabdev.models import JobRecord
from tests.support.house import House
from tests.support.records import make_record

JOB_ID = "train-261120-abcd"


@dataclass(frozen=True, slots=True)
class World:
    """A user's computer, and the empty project that the row has for itself."""

    house: House
    project: Path

    @property
    def state(self) -> Path:
        return self.house.places.state_dir

    @property
    def ssh(self) -> Path:
        return self.house.home / ".ssh"


Place = Callable[[World], Path]
Prepare = Callable[[World], object]


@dataclass(frozen=True, slots=True)
class Row:
    """A command line in a broken place, its exit code, and what its one sentence says."""

    line: tuple[str, ...]
    code: int
    says: str
    given: tuple[Prepare, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    """Variables of the environment; None takes one away."""

    @property
    def name(self) -> str:
        """What pytest shows."""
        made = ", ".join(getattr(prepare, "label", "") for prepare in self.given)
        words = " ".join([*self.line, *(f"{key}={value}" for key, value in self.env.items())])
        return f"{words} [{made}]".encode("ascii", "backslashreplace").decode()[:150]


def row(
    line: str | tuple[str, ...],
    code: int,
    says: str,
    *given: Prepare,
    env: Mapping[str, str | None] | None = None,
) -> Row:
    words = tuple(shlex.split(line)) if isinstance(line, str) else line
    return Row(words, code, says, given, env or {})


def _labelled(label: str, prepare: Callable[[World], object]) -> Prepare:
    def labelled(world: World) -> object:
        return prepare(world)

    labelled.label = label  # type: ignore[attr-defined]
    return labelled


def write(place: Place, content: str | bytes, mode: int = 0o600) -> Prepare:
    """A file there."""

    def prepare(world: World) -> None:
        path = place(world)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)

    shown = content[:24].decode("latin-1") if isinstance(content, bytes) else content[:24]
    return _labelled(f"file {shown!r}", prepare)


def folder(place: Place) -> Prepare:
    """A directory there."""
    return _labelled("folder", lambda world: place(world).mkdir(parents=True))


def link(place: Place, target: str) -> Prepare:
    """A symbolic link there."""

    def prepare(world: World) -> None:
        place(world).parent.mkdir(parents=True, exist_ok=True)
        place(world).symlink_to(target)

    return _labelled(f"link to {target}", prepare)


def fifo(place: Place) -> Prepare:
    """A named pipe there, which nobody writes to."""

    def prepare(world: World) -> None:
        place(world).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(place(world))

    return _labelled("fifo", prepare)


def toml(content: str | bytes) -> Prepare:
    """The project's colabdev.toml."""
    return write(settings_file, content)


def settings_file(world: World) -> Path:
    return world.project / "colabdev.toml"


def state_file(world: World) -> Path:
    return world.state / "runtimes" / "local.json"


def job_file(world: World) -> Path:
    return world.state / "jobs" / JOB_ID / "job.json"


def state(content: str | bytes) -> Prepare:
    """The state file of the runtime `local`."""
    return write(state_file, content)


def job(content: str | bytes) -> Prepare:
    """The record of the job JOB_ID."""
    return write(job_file, content)


def state_with(**changes: Any) -> Prepare:
    """The state file of `local` with some values replaced; of an object only the keys that are given."""
    text = _changed(json.loads(format_record(make_record("local"))), changes)
    return _labelled(f"state {changes}", state(text))


def state_without(key: str) -> Prepare:
    """The state file of `local` without one of its keys."""
    document = json.loads(format_record(make_record("local")))
    del document[key]
    return _labelled(f"state without {key}", state(json.dumps(document)))


def job_with(**changes: Any) -> Prepare:
    """The record of JOB_ID with some values replaced."""
    return _labelled(f"job {changes}", job(_changed(_job_document(), changes)))


def job_without(key: str) -> Prepare:
    """The record of JOB_ID without one of its keys."""
    document = _job_document()
    del document[key]
    return _labelled(f"job without {key}", job(json.dumps(document)))


def _job_document() -> dict[str, Any]:
    moment = datetime(2026, 11, 20, 22, 34, 5, tzinfo=UTC)
    record = JobRecord(
        id=JOB_ID,
        name="train",
        runtime="local",
        request_id="r",
        argv=("train.py",),
        created=moment,
    )
    document: dict[str, Any] = json.loads(format_job(record))
    return document


def _changed(document: dict[str, Any], changes: Mapping[str, Any]) -> str:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict) and value:
            document[key] = {**document[key], **value}
        else:
            document[key] = value
    return json.dumps(document)


Snapshot = dict[str, tuple[str, int, object]]

# Made by looking: locks, the name of this computer, hashes of files; and the machine itself.
_NOT_KEPT = {"locks", "computer", "indexes", "local", "logs"}


def look(world: World) -> Snapshot:
    """Everything that a command must not change: kind, mode and content of each path."""
    found: Snapshot = {}
    for root in (world.state, world.ssh, world.project):
        if root.is_symlink() or root.is_file():
            found[str(root)] = _look_at(root)
        for path in sorted(root.rglob("*")) if root.is_dir() else []:
            is_kept = not _NOT_KEPT.intersection(path.relative_to(root).parts[:1])
            if is_kept and (path.is_symlink() or not path.is_dir()):
                found[str(path)] = _look_at(path)
    return found


def _look_at(path: Path) -> tuple[str, int, object]:
    if path.is_symlink():
        return "link", 0, os.readlink(path)
    mode = path.stat().st_mode
    return ("file", mode, path.read_bytes()) if path.is_file() else ("other", mode, None)
