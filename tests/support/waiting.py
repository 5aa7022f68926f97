"""Waiting for a condition, never for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.01


def wait_until(condition: Callable[[], T], *, timeout_s: float = 10.0, message: str) -> T:
    """The first true answer of `condition`; AssertionError with `message` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"after {timeout_s} s: {message}")
        time.sleep(POLL_S)
    return answer
