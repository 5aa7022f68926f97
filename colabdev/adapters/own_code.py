"""A job's code out of the project's files here, for as long as they are what it was started from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from colabdev.adapters.files import cache_name
from colabdev.adapters.sync_memory import FileSyncMemory
from colabdev.agent import archive
from colabdev.agent.tree import hash_fingerprints
from colabdev.errors import NoCode
from colabdev.models.orders import JobOrder

_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OwnCode:
    """Asks neither git nor any rules: the files are those that both sides last had."""

    index_dir: Path
    """Where that is remembered of each project."""
    computer_id: Callable[[], str]
    _others: set[tuple[object, str]] = field(default_factory=set)
    """Jobs and trees that the files here were packed for in vain: to look again takes long."""

    def pieces(self, runtime: str, order: JobOrder) -> Iterator[bytes]:
        """The archive of the tree that the order names, in pieces; NoCode unless the files are that."""
        root, wanted = order.project_path, order.tree
        if root is None or wanted is None:
            raise NoCode("nobody knows here which files it was started from")
        key = (order.spec.get("id"), wanted)
        if key in self._others:
            raise NoCode("the files here are others by now")
        paths = self._paths(runtime, root, wanted)
        about = {
            "project": order.project_name or Path(root).name,
            "stored": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "origin": f"{root} on {self.computer_id()}",
        }
        # Not where temporary files are, which may be memory: a project may be large.
        with tempfile.TemporaryFile(dir=self.index_dir) as packed:
            try:
                made = archive.write(cast(BinaryIO, packed), root, paths, (), about)
            except OSError as exc:
                self._others.add(key)
                raise NoCode(f"the files here cannot be packed: {exc}") from exc
            if made.tree != wanted:
                self._others.add(key)
                raise NoCode("the files here are others by now")
            packed.seek(0)
            while piece := packed.read(_PIECE_BYTES):
                yield piece

    def _paths(self, runtime: str, root: str, wanted: str) -> Collection[str]:
        memory = FileSyncMemory(self.index_dir / cache_name(Path(root)))
        side = memory.load(runtime)
        marks = memory.ancestor(runtime, side) if side is not None else None
        if marks is None or hash_fingerprints(marks) != wanted:
            raise NoCode("the files here are not those that both sides last had")
        return marks
