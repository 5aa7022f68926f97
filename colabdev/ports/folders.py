"""Folders of this computer that are made of archives, go into them, or are copied here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from colabdev.agent.shards import Shard
from colabdev.models import DataPlan, Unpacked
from colabdev.ports.progress import Progress


class BrokenArchive(Exception):
    """It does not prove itself; the text says how one sees that."""


class RestoreTarget(Protocol):
    """A folder in the making on this computer, under another name until it is whole."""

    def receive(self, pieces: Iterable[bytes]) -> None:
        """Take an archive, in place of one that was taken before."""

    def unpack(self, tree_hash: str) -> Unpacked:
        """Unpack what was received, proving it; `BrokenArchive` when it is not that tree's."""

    def place(self) -> None:
        """Give the folder its name."""


class LocalData(Protocol):
    """A folder of this computer that is to be a data set. Memory does not grow with its files."""

    def plan(self, progress: Progress) -> DataPlan:
        """Read all of it once, and say what it is packed into. What cannot be packed is a problem."""

    def read(self, shard: Shard, offset: int) -> Iterator[bytes]:
        """That shard of the plan from `offset` on, in pieces; other bytes when the files changed."""


class Templates(Protocol):
    """The projects that `init` starts from."""

    def names(self) -> Sequence[str]:
        """The templates there are, sorted."""

    def copy(self, name: str, target: Path) -> Sequence[str]:
        """Put the template at `target`, missing or an empty directory, whole or not at all; returns
        its files, relative."""

    def add(self, name: str, file: str, target: Path) -> None:
        """Put one file of the template into `target`, made if missing, where no such file is."""
