"""Changes to a tree and the contents they need, as one stream of frames.

A frame's header is `{"rows": bytes of rows, "size": bytes unpacked, "z": compressed}`; its body holds
rows (a JSON array of changes) and then a piece of the contents. The contents that the changes bring
follow each other in the order of the changes, without anything between. `{"end": true}` is the last
frame.
"""

from __future__ import annotations

import io
import json
import zlib
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from . import wire
from .tree import FILE, Entry, check_name, entry_from_row, entry_to_row

SEND = "send"
PATCH = "patch"
"""A file that is made of pieces of the one it replaces and of new ones."""
COPY = "copy"
"""A file whose content stands at another path already."""
MAKE_LINK = "link"
CHMOD = "chmod"
DELETE = "delete"
KEEP = "keep"
"""Both sides had this: it is ours from now on, and what is there by now is an edit of it."""
FORGET = "forget"
"""What is there stays, and is not ours any more."""
MKDIR = "mkdir"
RMDIR = "rmdir"
"""It goes if nothing lies in it, and is not ours any more; see `folders`."""
BROUGHT = "brought"
"""What is there was brought to the other side, as an output: it is not ours."""

FOLDER_OPS = (MKDIR, RMDIR)
"""The changes that are about a folder, not about what stands in its place."""
PUTS = (SEND, PATCH, COPY, MAKE_LINK)
"""The changes that put something new in the place of what is there."""

NOTHING = ""
"""The fingerprint of what is not there."""
OTHER = "?"
"""The fingerprint of what is no part of a tree: a folder, a device, or behind a link."""
NEW = -1
"""In a recipe: these bytes come with the stream."""

FRAME_BYTES = 512 * 1024
MAX_FRAME_BYTES = 8 * 1024 * 1024
COMPRESSED = (
    *(".7z", ".bz2", ".gz", ".lz4", ".npz", ".rar", ".tgz", ".whl", ".xz", ".zip", ".zst"),
    *(".avi", ".gif", ".jpeg", ".jpg", ".m4a", ".mkv", ".mov", ".mp3", ".mp4", ".ogg", ".png"),
    *(".webm", ".webp", ".ckpt", ".pt", ".pth", ".safetensors"),
)
"""Names of what is compressed already, or is known to gain nothing by it."""
_ROWS_PER_FRAME = 400
_RAW_FRAMES_AFTER_A_FAILURE = 15
_WORTH = 0.95
_LEVEL = 4
"""An eighth less of source text than level 1, and still at the pace of a link of 200 Mbit/s."""


class Malformed(ValueError):
    """The frames are not a stream of changes."""


class Change(NamedTuple):
    """One step. It is done only when the fingerprint at `path` is `expected`, or already the new one."""

    op: str
    path: str
    expected: str
    entry: Optional[Entry] = None
    """What shall be there; None for `delete`, `forget` and what is about a folder."""
    source: str = ""
    """Where the content of a `copy` stands."""
    recipe: Tuple[Tuple[int, int], ...] = ()
    """What a `patch` is made of: (offset in the old file or NEW, length), in order."""
    skip: int = 0
    """How much of what a `send` brings is staged already, by one that was cut."""

    @property
    def fingerprint(self) -> str:
        """What is there afterwards."""
        return self.entry.fingerprint if self.entry is not None else NOTHING

    @property
    def content_bytes(self) -> int:
        """How much content the stream holds for it."""
        if self.op == PATCH:
            return sum(length for offset, length in self.recipe if offset == NEW)
        return self.entry.size - self.skip if self.op == SEND and self.entry is not None else 0

    @property
    def pieces(self) -> Iterable[Tuple[int, int]]:
        """(offset in the new file, length) of what the stream holds for it."""
        if self.op != PATCH:
            return [(self.skip, self.content_bytes)]
        pieces, position = [], 0
        for offset, length in self.recipe:
            if offset == NEW:
                pieces.append((position, length))
            position += length
        return pieces


def op_to_put(entry: Entry, replaced: str) -> str:
    """What puts the entry in the place of what has the fingerprint `replaced`."""
    if entry.kind != FILE:
        return MAKE_LINK
    same = replaced[:1] == "f" and replaced[2:] == entry.digest
    return CHMOD if same else SEND


Frame = Tuple[Dict[str, Any], bytes]
Read = Callable[[Change], Iterator[bytes]]


def pack(changes: Iterable[Change], read: Optional[Read]) -> Iterator[Frame]:
    """The stream, without contents when `read` is None.

    `read` gives the content that a change brings. A file that became shorter, or cannot be read any
    more, is filled up with zeros, so that it fails its digest and nothing else does.
    """
    packer = _Packer()
    for change in changes:
        compressed = change.content_bytes > 0 and change.path.lower().endswith(COMPRESSED)
        if compressed != packer.compressed and packer.content_bytes:
            yield packer.frame()
        packer.compressed = compressed
        packer.rows.append(_change_to_row(change))
        if len(packer.rows) >= _ROWS_PER_FRAME:
            yield packer.frame()
        if read is not None and change.content_bytes:
            for piece in _exactly(change, read):
                packer.add(piece)
                if packer.content_bytes >= FRAME_BYTES:
                    yield packer.frame()
    if packer.rows or packer.content_bytes:
        yield packer.frame()
    yield {"end": True}, b""


class Unpacker:
    """The other end of `pack`."""

    def __init__(self, next_frame: Callable[[], Frame], contents: bool = True) -> None:
        self._next_frame = next_frame
        self._contents = contents
        self._rows: List[Any] = []
        self._content = memoryview(b"")
        self._left = 0
        self._ended = False

    def changes(self) -> Iterator[Change]:
        """Each change in turn; content of it that nobody took is skipped."""
        while True:
            for _ in self.content():
                pass
            while not self._rows and not self._ended:
                self._fetch()
            if not self._rows:
                return
            change = _change_from_row(self._rows.pop())
            self._left = change.content_bytes if self._contents else 0
            yield change

    def content(self) -> Iterator[memoryview]:
        """The content of the change at hand, in pieces."""
        while self._left:
            while not self._content:
                if self._ended:
                    raise Malformed("the stream ended inside a file")
                self._fetch()
            piece = self._content[: self._left]
            self._content = self._content[len(piece) :]
            self._left -= len(piece)
            yield piece

    def _fetch(self) -> None:
        header, body = self._next_frame()
        if header.get("end"):
            self._ended = True
            return
        plain, rows_bytes = _plain(header, body)
        self._content = memoryview(plain)[rows_bytes:]
        if rows_bytes:
            rows = json.loads(plain[:rows_bytes].decode("ascii"))
            if not isinstance(rows, list):
                raise Malformed("rows are no list")
            self._rows = rows[::-1] + self._rows


def pack_body(steps: Iterable[Change], read: Optional[Read]) -> bytes:
    """The stream in one piece, for a few changes."""
    return b"".join(wire.encode(*frame) for frame in pack(steps, read))


def unpack_body(body: bytes) -> Unpacker:
    """The other end of `pack_body`. What it gives may raise WireError, too."""
    stream = io.BytesIO(body)

    def next_frame() -> Frame:
        frame = wire.read_frame(stream.read)
        if frame is None:
            raise wire.Truncated("the changes have no end")
        return frame

    return Unpacker(next_frame)


class _Packer:
    """A frame in the making."""

    def __init__(self) -> None:
        self.rows: List[List[Any]] = []
        self.content_bytes = 0
        self.compressed = False
        """What is added is compressed already."""
        self._pieces: List[bytes] = []
        self._raw_frames = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.content_bytes += len(piece)

    def frame(self) -> Frame:
        rows = b""
        if self.rows:
            rows = json.dumps(self.rows, separators=(",", ":")).encode("ascii")
        plain = b"".join([rows, *self._pieces])
        header: Dict[str, Any] = {"rows": len(rows), "size": len(plain), "z": False}
        compressed = self.compressed and self.content_bytes > len(rows)
        self.rows, self._pieces, self.content_bytes = [], [], 0
        if compressed:
            return header, plain
        if self._raw_frames:
            # What could not be compressed goes on to be so for a while; trying costs time.
            self._raw_frames -= 1
            return header, plain
        packed = zlib.compress(plain, _LEVEL)
        if len(packed) > len(plain) * _WORTH:
            self._raw_frames = _RAW_FRAMES_AFTER_A_FAILURE
            return header, plain
        return dict(header, z=True), packed


def _exactly(change: Change, read: Read) -> Iterator[bytes]:
    left = change.content_bytes
    try:
        for piece in read(change):
            yield piece[:left]
            left -= min(left, len(piece))
            if not left:
                return
    except OSError:
        pass  # It went, or became unreadable: the zeros tell.
    while left:
        zeros = bytes(min(left, FRAME_BYTES))
        left -= len(zeros)
        yield zeros


def _plain(header: Dict[str, Any], body: bytes) -> Tuple[bytes, int]:
    size, rows_bytes = header.get("size"), header.get("rows")
    if not isinstance(size, int) or not isinstance(rows_bytes, int):
        raise Malformed("no sizes in {!r}".format(header))
    if not 0 <= rows_bytes <= size <= MAX_FRAME_BYTES:
        raise Malformed("sizes are {} and {}".format(rows_bytes, size))
    plain = zlib.decompressobj().decompress(body, size + 1) if header.get("z") else body
    if len(plain) != size:
        raise Malformed("{} bytes instead of {}".format(len(plain), size))
    return plain, rows_bytes


def _change_to_row(change: Change) -> List[Any]:
    entry = entry_to_row(change.entry) if change.entry is not None else None
    row: List[Any] = [change.op, change.path, change.expected, entry]
    how: Any = change.source or change.recipe or change.skip
    return [*row, how] if how else row


def _change_from_row(row: Any) -> Change:
    op, path, expected, entry_row = row[:4]
    how = row[4] if len(row) > 4 else None
    entry = None if entry_row is None else entry_from_row(entry_row)
    if not isinstance(path, str) or not isinstance(expected, str):
        raise Malformed("not a change: {!r}".format(row))
    if entry is None:
        check_name(path)
        if op not in (DELETE, FORGET, *FOLDER_OPS):
            raise Malformed("not a change: {!r}".format(row))
    elif entry.path != path or op not in (*PUTS, CHMOD, KEEP, BROUGHT):
        raise Malformed("not a change: {!r}".format(row))
    if op in (SEND, PATCH, COPY, CHMOD) and (entry is None or entry.kind != FILE):
        raise Malformed("not a change: {!r}".format(row))
    if op == COPY and isinstance(how, str):
        return Change(op, path, expected, entry, source=check_name(how))
    if op == PATCH and entry is not None and isinstance(how, list):
        return Change(op, path, expected, entry, recipe=_recipe(how, entry.size))
    if op == SEND and entry is not None and isinstance(how, int) and 0 < how <= entry.size:
        return Change(op, path, expected, entry, skip=how)
    if how is not None or op in (COPY, PATCH):
        raise Malformed("not a change: {!r}".format(row))
    return Change(op, path, expected, entry)


def _recipe(rows: List[Any], size: int) -> Tuple[Tuple[int, int], ...]:
    recipe = tuple((offset, length) for offset, length in rows)
    for offset, length in recipe:
        if not isinstance(offset, int) or not isinstance(length, int):
            raise Malformed("not a recipe: {!r}".format(rows[:3]))
        if offset < NEW or length <= 0:
            raise Malformed("not a recipe: {!r}".format(rows[:3]))
    if sum(length for _, length in recipe) != size:
        raise Malformed("a recipe for another size than {}".format(size))
    return recipe
