"""A project's files on this computer, and what is remembered of the other side's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from colabdev.agent.blocks import Recipe, Signature
from colabdev.agent.changes import Change
from colabdev.agent.placing import Failure
from colabdev.agent.tree import Entry
from colabdev.models import Absence, Explanation, KnownSide, TreeScan


class Steps(Protocol):
    """Changes one after the other, each with its content; `agent.changes.Unpacker` is one."""

    def changes(self) -> Iterator[Change]:
        """Each change in turn; content of it that nobody took is skipped."""

    def content(self) -> Iterator[memoryview]:
        """The content of the change at hand, in pieces."""


class TreeWatch(Protocol):
    """Notices what changes in a project on this computer."""

    @property
    def because(self) -> str:
        """Why it can only look now and then; "" when the system tells of changes."""

    def wait(self, timeout_s: float) -> Collection[str]:
        """The paths that changed, once all that changes in one go did; nothing after `timeout_s`. "" is
        anything, and a path that ends with '/' a whole folder."""

    def close(self) -> None:
        """Notice nothing more."""


class LocalTree(Protocol):
    """A project's files on this computer."""

    def scan(self) -> TreeScan:
        """Look at all of them now. What cannot be read is a problem, never a file that is not there."""

    def rescan(
        self, paths: Collection[str], folders: Collection[str]
    ) -> Mapping[str, Entry | None] | None:
        """What a scan would say now of these paths, None for each where nothing is. None in place of
        them all when only a scan tells; `folders` are kept in step by themselves, so one of them that
        went is such a case. What came or went elsewhere since the last scan is not looked for."""

    def rules_key(self) -> str:
        """The key of the rules of the last scan, whoever made it; "" when nobody knows."""

    def watch(self) -> TreeWatch:
        """Notice changes from now on, by the rules of the last scan."""

    def wait_for_git(self) -> None:
        """Wait while git changes the files; not for long, should it have left its lock behind."""

    def absences(self, paths: Iterable[str]) -> Mapping[str, Absence]:
        """Why each of these, which the last scan did not find, is no part of the project."""

    def read(self, change: Change) -> Iterator[bytes]:
        """The content that the change brings, in pieces; OSError when it cannot be read any more."""

    def explain(self, path: str) -> Explanation:
        """Whether a path is synced, and which rule decided."""

    def look(self, path: str) -> str:
        """The fingerprint of what stands at a path now, in the project or not."""

    def folder(self, path: str) -> str:
        """Whether a folder stands at a path, and something in it; see `agent.folders`."""

    def signature(self, path: str, digest: str) -> Signature | None:
        """The blocks of the version with this digest, of the file that stands there now or of one that
        was remembered; None when nobody knows."""

    def recipe(self, entry: Entry, old: Signature) -> Recipe:
        """How the file here is made of an older version; () when it is hardly made of it."""

    def remember_blocks(self, digests: Mapping[str, str]) -> None:
        """Remember the blocks of these large files, path by digest, and forget all others."""

    def staged(self) -> Mapping[str, int]:
        """How many bytes are here already of which contents, by digest, left by a sync that was cut."""

    def write(self, steps: Steps) -> Sequence[Failure]:
        """Make the changes here; those that cannot be made are values. `ColabdevError` when no more can
        be written, or another sync of the project is at it; what was done until then stays."""

    def tidy(self) -> None:
        """Remove what a sync that was killed left here, but for what the next one goes on with."""


class SyncMemory(Protocol):
    """What is remembered of each runtime's side of a project. Only a cache: it may forget."""

    def load(self, runtime: str) -> KnownSide | None:
        """What is known of the last sync with this machine."""

    def ancestor(self, runtime: str, side: KnownSide) -> Mapping[str, str] | None:
        """The fingerprints that both sides had then, by path; None when they are damaged, or another
        sync remembers another side by now."""

    def save(self, runtime: str, known: KnownSide, ancestor: Mapping[str, str]) -> None:
        """Remember this from now on, if that can be written."""


@dataclass(frozen=True, slots=True)
class SyncedProject:
    """The project that is to be synced, and the ways to it."""

    path: str
    name: str
    tree: LocalTree
    memory: SyncMemory
    max_bytes: int
