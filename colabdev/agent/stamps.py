"""What files looked like from outside when they were hashed, so that they need not be hashed again."""

from __future__ import annotations

import hashlib
import os
import struct
from typing import Dict, Iterator, MutableMapping, NamedTuple, Tuple

_INODE_MASK = (1 << 64) - 1
"""Some file systems of Windows have longer ones."""
_OUTSIDE = struct.Struct(">QqqQ")
_STAMP = struct.Struct(">QqqQ32s")
_MAGIC = b"colabdev stamps 2\n"
_COUNTS = struct.Struct(">QQ")
_CHECK_BYTES = hashlib.sha256().digest_size


class Stamp(NamedTuple):
    """What a file looked like from outside when its content had this digest.

    Only kept when the file's times were older than the scan that hashed it: a later edit cannot
    leave them as they are.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: str


class Index(MutableMapping[str, Stamp]):
    """Stamps by path, in a quarter of the memory that they would take one by one."""

    def __init__(self) -> None:
        self._packed: Dict[str, bytes] = {}

    def __getitem__(self, path: str) -> Stamp:
        size, mtime_ns, ctime_ns, inode, digest = _STAMP.unpack(self._packed[path])
        return Stamp(size, mtime_ns, ctime_ns, inode, digest.hex())

    def __setitem__(self, path: str, stamp: Stamp) -> None:
        size, mtime_ns, ctime_ns, inode, digest = stamp
        try:
            self._packed[path] = _STAMP.pack(size, mtime_ns, ctime_ns, inode, bytes.fromhex(digest))
        except struct.error:
            # A time that no clock shows is not kept: such a file is read every time.
            self._packed.pop(path, None)

    def __delitem__(self, path: str) -> None:
        del self._packed[path]

    def clear(self) -> None:
        """Forget all; what a mapping does by itself goes one by one."""
        self._packed.clear()

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, path: object) -> bool:
        return path in self._packed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and self._packed == other._packed

    __hash__ = None  # type: ignore[assignment]

    def digest(self, path: str, status: os.stat_result) -> str:
        """The digest of the file at `path`, if it looks as it did when that was found; else ""."""
        packed = self._packed.get(path)
        if packed is None:
            return ""
        try:
            outside = _OUTSIDE.pack(*outside_of(status))
        except struct.error:
            return ""
        return packed[_OUTSIDE.size :].hex() if packed.startswith(outside) else ""

    def take(self, path: str, other: Index) -> None:
        """Have the same stamp as another index."""
        self._packed[path] = other._packed[path]

    def take_all(self, other: Index) -> None:
        """Have all that another index has, too."""
        self._packed.update(other._packed)

    def to_bytes(self) -> bytes:
        """As a file keeps it: its own hash, and then the paths and the stamps, each in one piece. A
        large one is read in a moment, which no text would be."""
        paths = "\0".join(self._packed).encode("utf-8", "surrogatepass")
        counts = _COUNTS.pack(len(self._packed), len(paths))
        content = b"".join([counts, paths, *self._packed.values()])
        return b"".join([_MAGIC, hashlib.sha256(content).digest(), content])

    @classmethod
    def from_bytes(cls, data: bytes) -> Index:
        """What `to_bytes` gave. It is only a cache: one that makes no sense is an empty one."""
        index = cls()
        head = len(_MAGIC) + _CHECK_BYTES
        content = memoryview(data)[head:]
        is_whole = hashlib.sha256(content).digest() == data[len(_MAGIC) : head]
        if data.startswith(_MAGIC) and is_whole:
            count, paths_bytes = _COUNTS.unpack(content[: _COUNTS.size])
            at = _COUNTS.size + paths_bytes
            paths = str(content[_COUNTS.size : at], "utf-8", "surrogatepass").split("\0")
            starts = range(at, at + count * _STAMP.size, _STAMP.size)
            stamps = (bytes(content[start : start + _STAMP.size]) for start in starts)
            index._packed = dict(zip(paths, stamps))
        return index


def outside_of(status: os.stat_result) -> Tuple[int, int, int, int]:
    """What of a file's status is another after any edit."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & _INODE_MASK)


def stamp_of(status: os.stat_result, digest: str) -> Stamp:
    """The stamp of a file that has this status and this content."""
    return Stamp(*outside_of(status), digest)
