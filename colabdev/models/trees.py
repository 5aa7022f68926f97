"""A project's files, and what is known of them; a folder as an archive has it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from colabdev.agent.shards import Shard
from colabdev.agent.tree import Entry, Problem


class Absence(Enum):
    """Why a file that sync once sent is not in the project's tree any more."""

    GONE = "gone"
    IGNORED = "ignored"
    """It is here, and now ignored or excluded."""
    UNKNOWN = "unknown"
    """It could not be looked at."""


@dataclass(frozen=True, slots=True)
class SyncedSettings:
    """What a project's settings say of how it is synced."""

    name: str | None = None
    """Its own name; None: the folder's."""
    exclude: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    watch: bool = True


@dataclass(frozen=True, slots=True)
class TreeScan:
    """A project's files as of now, and what cannot be synced: a path and the reason."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    rules: str = ""
    """The document of the rules by which the runtime is to list its side; see `agent.rules`."""
    root: int = 0
    """What tells the project's folder from another one in its place: its inode."""
    folders: tuple[str, ...] = ()
    """The folders of the project that hold nothing at all."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came of unpacking an archive: how many files, and what cannot be here or is not in it."""

    files: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class DataPlan:
    """A folder as a data set: what it is packed into, and what cannot be in it."""

    content: str
    """The id, which changes with any content."""
    files: int
    size_bytes: int
    shards: tuple[Shard, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether a path is synced, and why."""

    path: str
    synced: str
    """`yes`, `no`, or `comes`: an output, which goes one way."""
    reason: str


@dataclass(frozen=True, slots=True)
class KnownSide:
    """What this computer remembers of the last sync of a project with a runtime. Only a cache: when it
    is wrong, the runtime says so."""

    ancestor: str
    """The hash of what both sides had then."""
    tree: str
    """The hash of what the runtime had then."""
    local: str
    """The hash of what was here then."""
    root: int
    """`TreeScan.root` of then."""
    folders: tuple[str, ...] = ()
    """The folders that no file brought along, and that both sides had then."""
