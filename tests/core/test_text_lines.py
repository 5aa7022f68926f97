"""A log's bytes as lines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from colabdev.core.text_lines import text_lines

LOG = "ein\r\nzw\u00f6lf\n\n 10%\r 20%\r\nlast".encode() + b"\xff"
LINES = ["ein", "zw\u00f6lf", "", " 10%", " 20%", "last\ufffd"]


@pytest.mark.parametrize("size", range(1, len(LOG) + 1))
def test_lines_are_the_same_however_the_log_is_cut(size: int) -> None:
    pieces = (LOG[at : at + size] for at in range(0, len(LOG), size))
    assert list(text_lines(pieces)) == LINES


def test_line_comes_as_soon_as_it_has_ended() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"first\nsec"
        raise AssertionError("asked for more than the first line needs")

    assert next(text_lines(pieces())) == "first"


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\r", ["a"]),
        (b"a\xe2\x82", ["a\ufffd"]),
        (b"a\x0bb", ["a\x0bb"]),
    ],
)
def test_ends_of_logs(log: bytes, lines: list[str]) -> None:
    assert list(text_lines([log])) == lines
