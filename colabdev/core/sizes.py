"""Sizes as people type and read them; k, M and G are powers of 1000."""

from __future__ import annotations

import re

from colabdev.errors import UsageError

DEFAULT_MAX_SIZE = "200M"
"""Larger files are hardly ever meant to go over a home's uplink unasked."""

_FACTORS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_SIZE = re.compile(r"([0-9]{1,15})([kmgt]?)b?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """`500M` in bytes; `UsageError` when it is no size."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size", hint="for example 500M, or 2G")
    return int(match[1]) * _FACTORS[match[2].lower()]


def format_size(size_bytes: int) -> str:
    """`1.2 MB`."""
    amount = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{size_bytes} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
