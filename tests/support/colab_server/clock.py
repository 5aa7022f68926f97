"""The stand-in's time: the computer's, moved ahead by as much as a test wants."""

from __future__ import annotations

import time


class Clock:
    def __init__(self) -> None:
        self._ahead_s = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._ahead_s

    def reset(self) -> None:
        self._ahead_s = 0.0

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds
