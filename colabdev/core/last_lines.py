"""The end of what is there already, and then all that comes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

LINES = 10
BYTES = 10 * 1024

_LINE_END = re.compile(rb"\r\n|\r|\n")


def last_lines(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Of the first `size` bytes the last lines, at most `LINES` and `BYTES`; then the rest as it comes.

    A bar that redraws itself is one long line with carriage returns in it: cut short, it begins
    behind one, so that no escape sequence is torn.
    """
    seen, kept, source = 0, b"", iter(pieces)
    rest = b""
    while seen < size and (piece := next(source, None)) is not None:
        old = piece[: size - seen]
        rest = piece[size - seen :]
        seen += len(piece)
        kept = (kept + old)[-BYTES - 1 :]
    if tail := _tail(kept):
        yield tail
    if rest:
        yield rest
    yield from source


def _tail(kept: bytes) -> bytes:
    if len(kept) > BYTES:
        first = _LINE_END.search(kept, 1)
        kept = kept[first.end() :] if first else kept[-BYTES:]
    lines = kept.split(b"\n")
    count = LINES + 1 if kept.endswith(b"\n") else LINES
    return b"\n".join(lines[-count:])
