"""What of a large file is already in another version of it: fixed blocks, and no loop over bytes.

A signature has for each block of the old file, counted from its start, the block's hash and its first
bytes. In the new file a block lies where it was (something was overwritten before it), where it was and
the difference of the sizes (one insertion before it), or elsewhere (several). The first two are looked
up; the third is found by looking for a block's first bytes, which the C library does.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Sequence, Set, Tuple

from .changes import NEW

FROM_BYTES = 1024 * 1024
"""Smaller files are sent whole."""
_BLOCK_BYTES = 16 * 1024
_MOST_BLOCKS = 8192
_HASH_BYTES = 16
_ANCHOR_BYTES = 16
_SEARCHES = 24
_SEARCH_BYTES = 1024 * 1024
_HEAD = struct.Struct(">QI")

Recipe = Tuple[Tuple[int, int], ...]


class Signature(NamedTuple):
    """The blocks of one version of a file."""

    size: int
    block_bytes: int
    hashes: Sequence[bytes]
    anchors: Sequence[bytes]

    def to_bytes(self) -> bytes:
        """As it is kept and sent."""
        head = _HEAD.pack(self.size, self.block_bytes)
        return head + b"".join(self.hashes) + b"".join(self.anchors)


def signature_from_bytes(data: bytes) -> Signature:
    """The signature that `to_bytes` gave; ValueError when it is none."""
    if len(data) < _HEAD.size:
        raise ValueError("no signature")
    size, block_bytes = _HEAD.unpack(data[: _HEAD.size])
    rest = data[_HEAD.size :]
    count = size // block_bytes if block_bytes else -1
    if len(rest) != count * (_HASH_BYTES + _ANCHOR_BYTES):
        raise ValueError("no signature")
    middle = count * _HASH_BYTES
    hashes = [rest[at : at + _HASH_BYTES] for at in range(0, middle, _HASH_BYTES)]
    anchors = [rest[at : at + _ANCHOR_BYTES] for at in range(middle, len(rest), _ANCHOR_BYTES)]
    return Signature(size, block_bytes, hashes, anchors)


def sign(location: str) -> Tuple[str, Signature]:
    """The sha256 of the file as it is now, and its signature; OSError when it cannot be read."""
    whole = hashlib.sha256()
    hashes, anchors = [], []
    with open(location, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        block_bytes = _BLOCK_BYTES
        while size > block_bytes * _MOST_BLOCKS:
            block_bytes *= 2
        for _ in range(size // block_bytes):
            block = file.read(block_bytes)
            if len(block) != block_bytes:
                raise OSError("it changes while it is read")
            whole.update(block)
            hashes.append(_hash(block))
            anchors.append(block[:_ANCHOR_BYTES])
        whole.update(file.read())
    return whole.hexdigest(), Signature(size, block_bytes, hashes, anchors)


def find_recipe(old: Signature, location: str) -> Recipe:
    """How the file at `location` is made of the old version's blocks and new bytes; () when it is
    hardly made of them at all."""
    size = os.stat(location).st_size
    if not old.hashes or size < old.block_bytes:
        return ()
    with open(location, "rb", buffering=0) as file:
        search = _Search(old, file, size)
        search.run()
    return _worth_it(_recipe(search.found, old.block_bytes, size), size)


class _Search:
    """Where the old file's blocks lie in the new one."""

    def __init__(self, old: Signature, file: BinaryIO, size: int) -> None:
        self.found: Dict[int, int] = {}
        """The old block's number by its offset in the new file."""
        self._old = old
        self._file = file
        self._size = size
        self._missing: Set[int] = set(range(len(old.hashes)))

    def run(self) -> None:
        shifts = [0, self._size - self._old.size]
        tried = set()
        searches = _SEARCHES
        while shifts:
            shift = shifts.pop(0)
            if shift not in tried:
                tried.add(shift)
                self._match(shift)
            if not shifts and searches and self._missing:
                searches -= 1
                shifts = self._elsewhere()

    def _match(self, shift: int) -> None:
        """Find the blocks that moved by so much."""
        taken = _Spans(self.found, self._old.block_bytes)
        for number in sorted(self._missing):
            at = number * self._old.block_bytes + shift
            if at < 0 or at + self._old.block_bytes > self._size or taken.overlaps(at):
                continue
            if self._is_block(number, at):
                self.found[at] = number
                self._missing.discard(number)

    def _is_block(self, number: int, at: int) -> bool:
        self._file.seek(at)
        block = self._file.read(self._old.block_bytes)
        # Its first bytes are looked at first: most blocks that are not there fail at once.
        return block.startswith(self._old.anchors[number]) and (
            _hash(block) == self._old.hashes[number]
        )

    def _elsewhere(self) -> List[int]:
        """A way that some missing block moved, found by looking for it in the longest gap."""
        gaps = _gaps(self.found, self._old.block_bytes, self._size)
        start, end = max(gaps, key=lambda gap: gap[1] - gap[0], default=(0, 0))
        if end - start < self._old.block_bytes:
            return []
        # What a file is full of (zeros, say) is found anywhere.
        telling = [n for n in sorted(self._missing) if len(set(self._old.anchors[n])) > 3]
        middle = len(telling) // 2
        for number in telling[middle : middle + 3]:
            at = self._find(self._old.anchors[number], start, end)
            if 0 <= at <= self._size - self._old.block_bytes and self._is_block(number, at):
                return [at - number * self._old.block_bytes]
            self._missing.discard(number)  # Looked for, and not there.
        return []

    def _find(self, anchor: bytes, start: int, end: int) -> int:
        """The first place of these bytes between `start` and `end`; -1 when they are not there."""
        tail = b""
        self._file.seek(start)
        while start < end:
            piece = tail + self._file.read(min(_SEARCH_BYTES, end - start))
            if len(piece) == len(tail):
                return -1
            found = piece.find(anchor)
            if found >= 0:
                return start - len(tail) + found
            start += len(piece) - len(tail)
            tail = piece[1 - _ANCHOR_BYTES :]
        return -1


class _Spans:
    """The places in the new file that are taken."""

    def __init__(self, found: Dict[int, int], block_bytes: int) -> None:
        self._cells = {at // block_bytes: at for at in found}
        self._block_bytes = block_bytes

    def overlaps(self, at: int) -> bool:
        cell = at // self._block_bytes
        return any(
            abs(self._cells.get(near, -self._block_bytes) - at) < self._block_bytes
            for near in (cell - 1, cell, cell + 1)
        )


def _gaps(found: Dict[int, int], block_bytes: int, size: int) -> Iterator[Tuple[int, int]]:
    position = 0
    for at in sorted(found):
        if at > position:
            yield position, at
        position = at + block_bytes
    if position < size:
        yield position, size


def _recipe(found: Dict[int, int], block_bytes: int, size: int) -> List[Tuple[int, int]]:
    """Pieces in order; neighbours are one piece."""
    spans = [(start, NEW, end - start) for start, end in _gaps(found, block_bytes, size)]
    spans += [(at, number * block_bytes, block_bytes) for at, number in found.items()]
    recipe: List[Tuple[int, int]] = []
    for _, offset, length in sorted(spans):
        if recipe and offset != NEW and recipe[-1][0] != NEW and sum(recipe[-1]) == offset:
            recipe[-1] = (recipe[-1][0], recipe[-1][1] + length)
        else:
            recipe.append((offset, length))
    return recipe


def _worth_it(recipe: List[Tuple[int, int]], size: int) -> Recipe:
    fresh = sum(length for offset, length in recipe if offset == NEW)
    return tuple(recipe) if fresh < size * 0.9 and len(recipe) <= 20000 else ()


def _hash(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=_HASH_BYTES).digest()
