"""A log's bytes as lines of text."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator


def text_lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines without their ends, each as soon as it has ended, decoded and split as files opened as
    text are: each step of a bar is a line, once a byte behind its carriage return is there. Bytes that
    are not UTF-8 become replacement characters."""
    utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
    begun: list[str] = []  # Pieces, not a text: a long line comes in many.
    for piece in pieces:
        first, *others = decoder.decode(piece).split("\n")
        begun.append(first)
        for line in others:
            yield "".join(begun)
            begun = [line]
    begun.append(decoder.decode(b"", final=True))
    if rest := "".join(begun):
        yield from rest.removesuffix("\n").split("\n")
