"""What carries checkpoints off a runtime: one interface, and what each kind can prove.

A store keeps files under a root of its own (`MyDrive/colabdev` for those on Drive), each under a name
that is written once: nothing there is renamed, overwritten or appended to. Everything here may hang or
fail as the store does, so it is called only in a process that can be given up (`transfer`).
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from . import manifest
from .manifest import FileEntry

Receipt = Dict[str, Any]
"""What a store knows a file by that it was given; JSON, kept in the journal."""

Told = Callable[[int], None]
"""Hears how many bytes of a file were handled so far: whoever watches knows that it goes on."""

ARRIVING = "arriving"
"""Handed over; the store does not say yet that it has it."""
ARRIVED = "arrived"
"""The store itself says that it has it, with our hash."""
PROVED = "proved"
"""Somebody other than the writer says so."""
SILENT = "silent"
"""The store can say nothing: unproven."""
REFUTED = "refuted"
"""The store has something else, or nothing."""


class Proof(NamedTuple):
    """What can be said of a file in a store now; `why` is words for REFUTED and SILENT."""

    state: str
    why: str = ""


class StoreError(Exception):
    """The store cannot do it; a sentence. `again_s`: not before so long it makes sense to ask again."""

    def __init__(self, message: str, again_s: float = 0.0) -> None:
        super().__init__(message)
        self.again_s = again_s


class SourceChanged(StoreError):
    """What is held on the runtime's disk is not what it was: it is of no use any more."""


class Store:
    """Where checkpoints go. Every method may raise StoreError or OSError, and may hang."""

    name: str = ""
    best: str = manifest.CONFIRMED
    """The highest level that it can prove alone."""
    is_cached: bool = False
    """What it is given takes as much of the runtime's disk until it has arrived."""

    def put(self, path: str, source: str, entry: FileEntry, told: Told) -> Receipt:
        """Store the local file `source` as `path`, below the store's root, where nothing is yet. What
        was begun by a call that died is gone on with where the store can do that. SourceChanged
        when `source` is not what `entry` says: nothing that is wrong is left looking right."""
        raise NotImplementedError

    def look(self, receipt: Receipt, entry: FileEntry) -> Proof:
        """What can be said of a file that `put` returned."""
        raise NotImplementedError

    def names(self, folder: str) -> List[str]:
        """The names in that folder, sorted and each once; none when there is no such folder."""
        raise NotImplementedError

    def fetch(self, path: str, sha256: str = "") -> Iterator[bytes]:
        """The content of the file; of several with one name that with this hash, if any."""
        raise NotImplementedError

    def recall(self, receipt: Receipt) -> Iterator[bytes]:
        """The content of what `put` gave that for, whether or not a listing shows it by now."""
        return self.fetch(str(receipt["path"]))

    def remove(self, path: str) -> None:
        """Delete the file, or the folder and what is in it, for good where that can be had: its manifest
        first, so that nothing is found that is not whole. Harmless when there is none."""
        raise NotImplementedError

    def lag_s(self) -> float:
        """So long after a file has arrived another machine may still not be shown it."""
        return 0.0

    def free_bytes(self) -> Optional[int]:
        """How much more it takes; None when it does not say."""
        return None
