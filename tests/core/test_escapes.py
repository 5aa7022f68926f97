"""`~.` and its kin."""

from __future__ import annotations

import pytest

from colabdev.core.escapes import Escapes


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        (b"abc", b"abc", False),
        (b"~.", b"", True),
        (b"ls\r~.rest", b"ls\r", True),
        (b"ls\n~.", b"ls\n", True),
        (b"a~.", b"a~.", False),
        (b"~~.", b"~.", False),
        (b"~~\r~.", b"~\r", True),
        (b"~x~.", b"~x~.", False),
        (b"~\r~.", b"~\r", True),
        (b"\r~", b"\r", False),
        (b"\x03~.", b"\x03~.", False),
        (b"\xc3~.\r\r~.", b"\xc3~.\r\r", True),
    ],
)
def test_tilde_after_a_lines_end_is_ours(typed: bytes, passed: bytes, detached: bool) -> None:
    whole = Escapes()
    assert (whole.take(typed), whole.detached) == (passed, detached)
    pieces = Escapes()
    assert b"".join(pieces.take(bytes([key])) for key in typed).startswith(passed)
    assert pieces.detached == detached
