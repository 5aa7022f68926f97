"""The commands that there are, and the places in which each of them is typed.

A new command is one line in COMMANDS; a new place is a context manager and one line in PLACES.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from tests.support.disks import fill, tiny_disk
from tests.support.house import House
from tests.support.read_only import read_only_mount
from tests.support.typist import Place

DONE = "done"
"""The name of a job that has ended."""

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "init": ("init", "fresh"),
    "connect": ("connect", "--provider", "local"),
    "status": ("status",),
    "sync": ("sync",),
    "run": ("run", "true"),
    "ps": ("ps",),
    "logs": ("logs", DONE),
    "attach": ("attach", DONE),
    "stop": ("stop", DONE),
    "ssh": ("ssh", "local", "--", "true"),
    "ssh-config print": ("ssh-config", "print"),
    "restore": ("restore", "--list"),
    "checkpoints ls": ("checkpoints", "ls"),
    "data ls": ("data", "ls"),
    "doctor": ("doctor",),
    "config schema": ("config", "schema"),
    "auth terms": ("auth", "terms"),
    "auth ngrok": ("auth", "ngrok", "--remove"),
    "down": ("down", "local"),
}
"""What is typed for each command, in this order; all of them work in a healthy place."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A computer with a runtime up, one job that has ended, and a scratch directory."""

    house: House
    scratch: Path

    @property
    def healthy(self) -> Place:
        return Place(self.house.project, self.house.environment)

    @property
    def state(self) -> Path:
        return self.house.places.state_dir

    @property
    def ssh(self) -> Path:
        return self.house.home / ".ssh"


Enter = Callable[[Bench], AbstractContextManager[Place]]


@dataclass(frozen=True, slots=True)
class Hostile:
    """A place, and how each command ends there that does not end with 0."""

    name: str
    enter: Enter
    codes: Mapping[str, int] = field(default_factory=dict)
    mute: bool = False
    """Nobody can read what is said there."""
    releases: bool = False
    """`down` is really typed there; elsewhere with --dry-run, because a new runtime takes a second."""
    third: int | None = None
    """Which third of the commands is typed there, where all of them meet it in the same lines of ours;
    three places that are alike share them. `--long` types all everywhere."""

    @property
    def typed(self) -> Sequence[str]:
        """The commands that are typed there."""
        return tuple(COMMANDS)[self.third :: 3] if self.third is not None else tuple(COMMANDS)


def _environment(*without: str, **changed: str) -> Enter:
    @contextmanager
    def enter(bench: Bench) -> Iterator[Place]:
        kept = {
            name: value for name, value in bench.house.environment.items() if name not in without
        }
        yield replace(bench.healthy, environment={**kept, **changed})

    return enter


def _as(**changes: object) -> Enter:
    @contextmanager
    def enter(bench: Bench) -> Iterator[Place]:
        yield replace(bench.healthy, **changes)  # type: ignore[arg-type]

    return enter


def _read_only(place: Callable[[Bench], Path]) -> Enter:
    @contextmanager
    def enter(bench: Bench) -> Iterator[Place]:
        with read_only_mount(place(bench)):
            yield bench.healthy

    return enter


def _full(place: Callable[[Bench], Path]) -> Enter:
    @contextmanager
    def enter(bench: Bench) -> Iterator[Place]:
        """The same files on a disk of their own, which has no room left."""
        path, before, after = place(bench), bench.scratch / "before", bench.scratch / "after"
        shutil.copytree(path, before, symlinks=True)
        with tiny_disk(path, size_kb=4096):
            shutil.copytree(before, path, symlinks=True, dirs_exist_ok=True)
            fill(path / "ballast")
            yield bench.healthy
            (path / "ballast").unlink()
            shutil.copytree(path, after, symlinks=True)
        for folder in (path, before):
            shutil.rmtree(folder)
        after.rename(path)

    return enter


@contextmanager
def _deleted(bench: Bench) -> Iterator[Place]:
    gone = bench.scratch / "gone"
    yield replace(bench.healthy, cwd=gone, deleted=True)


@contextmanager
def _deep(bench: Bench) -> Iterator[Place]:
    """A working directory whose path is nearly as long as a path may be."""
    deep = bench.house.project.joinpath(*["d" * 200] * 18)
    deep.mkdir(parents=True, exist_ok=True)
    yield replace(bench.healthy, cwd=deep)
    shutil.rmtree(bench.house.project / ("d" * 200))


@contextmanager
def _odd_times(bench: Bench) -> Iterator[Place]:
    """Files and records from a clock that was set back, or never set."""
    for number, moment in enumerate((-1, 0, 1, 2**31, 4_354_819_199)):
        file = bench.house.project / f"from{number}.py"
        file.write_text("print()")
        os.utime(file, (moment, moment))
    future = datetime(2107, 1, 1, tzinfo=UTC)
    bench.house.change(
        lambda record: replace(
            record,
            created=future,
            machine=record.machine and replace(record.machine, since=future),
            projects=tuple(replace(link, connected=future) for link in record.projects),
        )
    )
    for path in bench.state.rglob("*.lock"):
        os.utime(path, (4_354_819_199, 4_354_819_199))
    yield bench.healthy
    for number in range(5):
        (bench.house.project / f"from{number}.py").unlink()


@contextmanager
def _linked_state(bench: Bench) -> Iterator[Place]:
    link = bench.scratch / "state of mine \udcff"
    link.unlink(missing_ok=True)
    link.symlink_to(bench.state)
    yield replace(
        bench.healthy,
        environment={**bench.house.environment, "COLABDEV_STATE_DIR": str(link)},
    )


_NEED_A_DIRECTORY = (
    *("init", "connect", "sync", "ssh", "restore", "checkpoints ls", "data ls", "down"),
)
_NO_DIRECTORY = dict.fromkeys(_NEED_A_DIRECTORY, 1) | {"run": 125}
_LOST_RESULT = dict.fromkeys(COMMANDS, 1) | {"run": 0, "logs": 0, "attach": 0, "ssh": 0}

PLACES = [
    Hostile("no HOME", _environment("HOME"), third=0),
    Hostile("HOME is missing", _environment(HOME="/nowhere/home"), third=1),
    Hostile("HOME is a file", _environment(HOME="/etc/hostname"), third=2),
    Hostile(
        "HOME is read-only",
        _read_only(lambda b: b.house.home),
        {"connect": 1, "down": 1},
        releases=True,
    ),
    Hostile("TMPDIR is missing", _environment(TMPDIR="/nowhere/tmp")),
    Hostile("a strange TERM", _environment(TERM="nonsense", COLUMNS="abc", LINES="-1")),
    Hostile("no PATH", _environment("PATH")),
    Hostile("PATH is empty", _environment(PATH=""), {"ssh": 1, "doctor": 1}),
    Hostile("stdout is closed", _as(closed=(1,)), third=2),
    Hostile("stderr is closed", _as(closed=(2,)), mute=True, third=1),
    Hostile("all three are closed", _as(closed=(0, 1, 2)), mute=True, releases=True, third=0),
    Hostile("stdout is full", _as(out=Path("/dev/full")), _LOST_RESULT, releases=True),
    Hostile("stderr is full", _as(err=Path("/dev/full")), mute=True, third=2),
    Hostile("umask 777", _as(umask=0o777), releases=True),
    Hostile("few descriptors", _as(limits=(("RLIMIT_NOFILE", 32),))),
    Hostile(
        "no file may be written",
        _as(limits=(("RLIMIT_FSIZE", 0),)),
        {"init": 1, "connect": 1, "run": 125, "down": 1, "doctor": 1},
        releases=True,
    ),
    Hostile(
        "no network, not even our own",
        _as(no_network=True),
        {
            "connect": 12,
            "sync": 12,
            "run": 125,
            "ps": 3,
            "ssh": 255,
            "restore": 12,
            "checkpoints ls": 12,
            "data ls": 12,
            "doctor": 1,
        },
        releases=True,
    ),
    Hostile("the directory is deleted", _deleted, _NO_DIRECTORY),
    Hostile("a very long path", _deep),
    Hostile("times of 1969 and 2107", _odd_times),
    Hostile("state behind a link that is no text", _linked_state),
    Hostile(
        "read-only state",
        _read_only(lambda b: b.state),
        {"connect": 1, "run": 125, "down": 1, "doctor": 1},
        releases=True,
    ),
    Hostile(
        "read-only .ssh", _read_only(lambda b: b.ssh), {"connect": 1, "down": 1}, releases=True
    ),
    Hostile("read-only project", _read_only(lambda b: b.house.project), {"init": 1}),
    Hostile("full project", _full(lambda b: b.house.project), {"init": 1}),
    Hostile("full .ssh", _full(lambda b: b.ssh), {"down": 1}, releases=True),
    Hostile("full copies of jobs", _full(lambda b: b.state / "jobs"), {"run": 125}, releases=True),
    Hostile("full records", _full(lambda b: b.state / "runtimes"), {"connect": 1}, releases=True),
]
