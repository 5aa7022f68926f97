"""Who is told how far something is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]
"""Told of each step as it begins, in words for the user; prints nothing itself."""


Meter = Callable[[str, int, int], None]
"""Told how far a transfer is: `sent` or `received`, bytes so far, bytes in all."""
