"""Waiting for a condition, never for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.01
LONGEST_PAUSE_S = 0.5


def wait_until(
    condition: Callable[[], T], *, timeout_s: float = 10.0, poll_s: float = POLL_S, message: str
) -> T:
    """The first true answer of `condition`; AssertionError with `message` after `timeout_s`. It is
    asked every `poll_s`, and less often when it takes long to answer: what is waited for needs the
    processor, too."""
    begun = asked = time.monotonic()
    while not (answer := condition()):
        answered = time.monotonic()
        if answered >= begun + timeout_s:
            raise AssertionError(f"after {timeout_s} s: {message}")
        time.sleep(max(poll_s, min(2 * (answered - asked), LONGEST_PAUSE_S)))
        asked = time.monotonic()
    return answer
