"""Sizes as they are typed and shown."""

from __future__ import annotations

import pytest

from colabdev.core.sizes import format_size, parse_size
from colabdev.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("17", 17), ("5k", 5000), ("200M", 200_000_000), ("2gb", 2 * 10**9), ("1T", 10**12)],
)
def test_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "5X", "1 2", "٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1_250_000, "1.2 MB"),
        (10**13, "10.0 TB"),
    ],
)
def test_size_is_shown(size: int, text: str) -> None:
    assert format_size(size) == text
