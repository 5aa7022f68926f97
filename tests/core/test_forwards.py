"""What may stand behind `forward`."""

from __future__ import annotations

import pytest

from colabdev.core.forwards import Forward, parse_forward
from colabdev.errors import UsageError


@pytest.mark.parametrize(
    ("word", "forward"),
    [
        ("6006", Forward(6006, "localhost", 6006)),
        ("16006:6006", Forward(16006, "localhost", 6006)),
        ("0:6006", Forward(0, "localhost", 6006)),
        ("8888:localhost:8888", Forward(8888, "localhost", 8888)),
        ("80:10.0.0.7:8080", Forward(80, "10.0.0.7", 8080)),
        ("8888:[::1]:8888", Forward(8888, "::1", 8888)),
    ],
)
def test_forward_is_parsed_as_ssh_does(word: str, forward: Forward) -> None:
    assert parse_forward(word) == forward


@pytest.mark.parametrize(
    "word",
    ["", "x", "0", "65536", "65536:1", "-1", "1:2:3:4", "localhost:80", "80:", ":80", "1::80", "٣"],
)
def test_what_is_no_forward_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="cannot forward"):
        parse_forward(word)
