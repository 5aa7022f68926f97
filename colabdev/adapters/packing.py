"""A folder of this computer as the shards of a data set: always the same tars of the same contents."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from colabdev.agent import tree
from colabdev.agent.shards import MTIME, Shard, content_id
from colabdev.errors import ColabdevError
from colabdev.models import DataPlan
from colabdev.ports import Progress

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_PIECE_BYTES = 512 * 1024
_SAY_FILES = 20_000


@contextmanager
def open_data_folder(root: Path, shard_bytes: int) -> Iterator[DataFolder]:
    """The folder, with a list of its files on the disk as long as it is looked at."""
    with tempfile.TemporaryFile("w+", encoding="ascii") as listing:
        yield DataFolder(root, shard_bytes, listing)


class DataFolder:
    """`ports.LocalData`. What it remembers of each file stands in `listing`, never in memory."""

    def __init__(self, root: Path, shard_bytes: int, listing: IO[str]) -> None:
        self._root = str(root)
        self._shard_bytes = shard_bytes
        self._listing = listing
        self._starts: dict[int, int] = {}

    def plan(self, progress: Progress) -> DataPlan:
        problems: list[tree.Problem] = []
        shards: list[Shard] = []
        making: _Making | None = None
        files = size_bytes = 0
        for path, status in _walk(self._root, "", problems):
            try:
                header, size = self._header(path, status)
            except (OSError, tree.HostileName) as exc:
                reason = exc.strerror if isinstance(exc, OSError) else None
                problems.append((path, reason or str(exc)))
                continue
            if making is None or making.is_full(len(header) + size, self._shard_bytes):
                if making is not None:
                    shards.append(making.end())
                making = _Making(len(shards) + 1)
                self._starts[making.number] = self._listing.tell()
            making.add(header)
            for piece in _content(self._root, path, size):
                making.add(piece)
            making.files += 1
            self._listing.write(json.dumps([path, size, header.hex()]) + "\n")
            files, size_bytes = files + 1, size_bytes + size
            if files % _SAY_FILES == 0:
                progress(f"looking at {self._root}: {files} files so far")
        if making is not None:
            shards.append(making.end())
        return DataPlan(
            content_id(shards), files, size_bytes, tuple(shards), tuple(sorted(problems))
        )

    def read(self, shard: Shard, offset: int) -> Iterator[bytes]:
        skip = offset
        for piece in self._pieces(shard):
            if skip >= len(piece):
                skip -= len(piece)
                continue
            yield piece[skip:]
            skip = 0

    def _pieces(self, shard: Shard) -> Iterator[bytes]:
        self._listing.seek(self._starts[shard.number])
        for _ in range(shard.files):
            path, size, header = json.loads(self._listing.readline())
            yield bytes.fromhex(header)
            yield from _content(self._root, path, size)
        yield _END

    def _header(self, path: str, status: os.stat_result) -> tuple[bytes, int]:
        """The tar header of a file or link, and the size of what follows it."""
        info = tarfile.TarInfo(path)
        info.mtime = MTIME
        if stat.S_ISLNK(status.st_mode):
            info.type, info.mode = tarfile.SYMTYPE, 0o777
            info.linkname = tree.check_target(path, os.readlink(f"{self._root}/{path}"))
        elif stat.S_ISREG(status.st_mode):
            info.size = status.st_size
            info.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
        else:
            raise tree.HostileName("is a socket, a FIFO or a device")
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"), info.size


class _Making:
    """A shard while its hash is computed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.files = 0
        self._size = 0
        self._digest = hashlib.sha256()

    def is_full(self, more: int, shard_bytes: int) -> bool:
        return self._size + more > shard_bytes

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        self._digest.update(piece)

    def end(self) -> Shard:
        self.add(_END)
        return Shard(self.number, self._size, self._digest.hexdigest(), self.files)


def _walk(
    root: str, folder: str, problems: list[tree.Problem]
) -> Iterator[tuple[str, os.stat_result]]:
    """Every file and link below `root`, in an order that is always the same."""
    try:
        with os.scandir(f"{root}/{folder}") as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as exc:
        problems.append((folder.rstrip("/") or ".", f"cannot be listed: {exc.strerror}"))
        return
    for name in names:
        path = folder + name
        try:
            status = os.lstat(f"{root}/{path}")
        except OSError as exc:
            problems.append((path, f"cannot be looked at: {exc.strerror}"))
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(root, path + "/", problems)
        else:
            yield path, status


def _content(root: str, path: str, size: int) -> Iterator[bytes]:
    """Exactly that much of the file, filled up to whole blocks; one that changed fails its hash."""
    left = size
    if size:
        try:
            with open(f"{root}/{path}", "rb", buffering=0) as file:
                while left and (piece := file.read(min(_PIECE_BYTES, left))):
                    left -= len(piece)
                    yield piece
        except OSError as exc:
            raise ColabdevError(
                f"cannot read {path} in {root}: {exc.strerror or exc}",
                hint="give read access, or move it out of the folder; then push again",
            ) from exc
    if left:
        raise ColabdevError(
            f"cannot pack {path} in {root}: it became shorter meanwhile",
            hint="push again when nobody writes there",
        )
    yield bytes(-size % _BLOCK)
