"""Checkpoints on this computer, and what lets a runtime into Drive for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from colabdev.agent.manifest import Manifest


class BrokenCopy(Exception):
    """A checkpoint here is not what its manifest says; the text says how one sees that."""


class ComingCheckpoint(Protocol):
    """A copy of a checkpoint in the making. A cut leaves what came of it, which is gone on with."""

    def size_of(self, path: str) -> int:
        """How much of that file is here."""

    def append(self, path: str, offset: int, data: bytes) -> None:
        """Add what the file has from `offset` on."""

    def place(self) -> Path:
        """Verify every hash and give the copy its name; returns where it is. `BrokenCopy` when it is
        not what its manifest says, and then nothing of it stays."""


class DriveTokens(Protocol):
    """What lets a runtime into the user's Drive."""

    def mint(self, *, with_refresh: bool) -> Mapping[str, object]:
        """The arguments of `checkpoint.token`: a token for an hour, good only for files on Drive that
        our OAuth client made; `with_refresh` also what others can be got with. `AuthNeeded` says why
        there is none, `RuntimeUnreachable` that Google could not be asked."""


class CheckpointCopies(Protocol):
    """The verified copies of checkpoints on this computer. `StateNotWritable` when there is no room."""

    def jobs(self) -> Sequence[str]:
        """The jobs of which there is one, sorted."""

    def names(self, job: str) -> Sequence[str]:
        """The names of the copies that are whole."""

    def load(self, job: str, name: str) -> Manifest | None:
        """What the copy's manifest says; None without a copy."""

    def path(self, job: str, name: str) -> Path:
        """Where the copy is, or would be."""

    def arrived(self, job: str, name: str) -> float:
        """When the copy was made; seconds since the epoch."""

    def coming(self, job: str) -> AbstractContextManager[None]:
        """Held while one process brings a checkpoint of that job here; others wait."""

    def begin(self, job: str, name: str, content: bytes) -> ComingCheckpoint:
        """In `coming`: take that checkpoint, whose manifest is `content`, or go on with it.
        `ProtocolError` when that is no manifest, or names files that this computer cannot have."""

    def read(self, job: str, name: str, path: str, offset: int) -> Iterator[bytes]:
        """That file of the copy from `offset` on, in pieces; `ColabdevError` when it cannot be read."""

    def manifest(self, job: str, name: str) -> bytes:
        """The copy's manifest as it came."""

    def damage(self, job: str, name: str) -> str | None:
        """What is wrong with the copy, in words; None when every hash verifies."""

    def export(self, job: str, name: str, target: Path) -> None:
        """Copy the copy to `target`, which is missing or an empty folder."""

    def delete(self, job: str, name: str) -> None:
        """Forget the copy. Harmless when there is none."""
