"""Changes to a tree and the contents they need, as one stream of frames.

A frame's header is `{"rows": bytes of rows, "size": bytes unpacked, "z": compressed}`; its body holds
rows (a JSON array of changes) and then a piece of the contents. The contents of all `file` changes
follow each other in the order of the changes, without anything between. `{"end": true}` is the last
frame.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from .tree import FILE, Entry, check_name, entry_from_row, entry_to_row

SEND = "send"
MAKE_LINK = "link"
CHMOD = "chmod"
DELETE = "delete"
KEEP = "keep"
"""What is there already is what should be there: it is ours from now on."""
FORGET = "forget"
"""What is there stays, and is not ours any more."""

NOTHING = ""
"""The fingerprint of what is not there."""
OTHER = "?"
"""The fingerprint of what is no part of a tree: a folder, a device, or behind a link."""

FRAME_BYTES = 512 * 1024
MAX_FRAME_BYTES = 8 * 1024 * 1024
_ROWS_PER_FRAME = 400
_RAW_FRAMES_AFTER_A_FAILURE = 15
_WORTH = 0.95


class Malformed(ValueError):
    """The frames are not a stream of changes."""


class Change(NamedTuple):
    """One step. It is done only when the fingerprint at `path` is `expected`, or already the new one."""

    op: str
    path: str
    expected: str
    entry: Optional[Entry] = None
    """What shall be there; None for `delete` and `forget`."""

    @property
    def fingerprint(self) -> str:
        """What is there afterwards."""
        return self.entry.fingerprint if self.entry is not None else NOTHING

    @property
    def content_bytes(self) -> int:
        """How much content the stream holds for it."""
        return self.entry.size if self.op == SEND and self.entry is not None else 0


Frame = Tuple[Dict[str, Any], bytes]
Read = Callable[[Entry], Iterator[bytes]]


def pack(changes: Iterable[Change], read: Optional[Read]) -> Iterator[Frame]:
    """The stream, without contents when `read` is None.

    `read` gives a file's content. A file that became shorter, or cannot be read any more, is filled up
    with zeros, so that it fails its digest and nothing else does.
    """
    packer = _Packer()
    for change in changes:
        packer.rows.append([change.op, change.path, change.expected, _row(change.entry)])
        if len(packer.rows) >= _ROWS_PER_FRAME:
            yield packer.frame()
        if read is not None and change.content_bytes and change.entry is not None:
            for piece in _exactly(change.entry, read):
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


class _Packer:
    """A frame in the making."""

    def __init__(self) -> None:
        self.rows: List[List[Any]] = []
        self.content_bytes = 0
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
        self.rows, self._pieces, self.content_bytes = [], [], 0
        if self._raw_frames:
            # What could not be compressed goes on to be so for a while; trying costs time.
            self._raw_frames -= 1
            return header, plain
        packed = zlib.compress(plain, 1)
        if len(packed) > len(plain) * _WORTH:
            self._raw_frames = _RAW_FRAMES_AFTER_A_FAILURE
            return header, plain
        return dict(header, z=True), packed


def _exactly(entry: Entry, read: Read) -> Iterator[bytes]:
    left = entry.size
    try:
        for piece in read(entry):
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


def _row(entry: Optional[Entry]) -> Optional[List[Any]]:
    return entry_to_row(entry) if entry is not None else None


def _change_from_row(row: Any) -> Change:
    op, path, expected, entry_row = row
    entry = None if entry_row is None else entry_from_row(entry_row)
    if not isinstance(path, str) or not isinstance(expected, str):
        raise Malformed("not a change: {!r}".format(row))
    if entry is None:
        check_name(path)
        if op not in (DELETE, FORGET):
            raise Malformed("not a change: {!r}".format(row))
    elif entry.path != path or op not in (SEND, MAKE_LINK, CHMOD, KEEP):
        raise Malformed("not a change: {!r}".format(row))
    if op in (SEND, CHMOD) and (entry is None or entry.kind != FILE):
        raise Malformed("not a change: {!r}".format(row))
    return Change(op, path, expected, entry)
