"""What `attach` shows first."""

from __future__ import annotations

import pytest

from colabdev.core.last_lines import BYTES, last_lines

NUMBERS = [b"%d\n" % number for number in range(1, 31)]
BAR = b"".join(b"\r%5d of 9999 \x1b[32mbar\x1b[0m" % number for number in range(2000))


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        (b"", b""),
        (b"a", b"a"),
        (b"a\nb\n", b"a\nb\n"),
        (b"".join(NUMBERS), b"".join(NUMBERS[-10:])),
        (b"".join(NUMBERS) + b"half", b"".join(NUMBERS[-9:]) + b"half"),
        (b"\n" * 20, b"\n" * 10),
        (b"x" * (3 * BYTES), b"x" * BYTES),
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 100_000])
def test_last_lines_are_shown_and_then_all_that_comes(log: bytes, shown: bytes, cut: int) -> None:
    more = b"more\n" * 30
    whole = log + more
    pieces = [whole[start : start + cut] for start in range(0, len(whole), cut)]
    assert b"".join(last_lines(pieces, len(log))) == shown + more


def test_bar_is_cut_where_it_begins_anew() -> None:
    shown = b"".join(last_lines([BAR], len(BAR)))
    assert BAR.endswith(shown)
    assert BYTES - 100 < len(shown) <= BYTES
    assert shown.lstrip(b" ")[:4].isdigit()


def test_log_that_is_shorter_than_was_said_is_shown() -> None:
    assert b"".join(last_lines([b"a\n"], 100)) == b"a\n"
