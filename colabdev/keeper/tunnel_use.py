"""Counting what the keeper's own connections carry through a tunnel whose provider counts it, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from colabdev.core.ngrok_usage import MonthUse, warn_of_use


class Counted(Protocol):
    """What carries bytes."""

    @property
    def wire_bytes(self) -> int:
        """How many went over it so far, both ways."""


class TunnelUse:
    """One connection after the other; `add` keeps the sum."""

    def __init__(self, add: Callable[[int, int], MonthUse]) -> None:
        self._add = add
        self._lock = threading.Lock()
        self._connection: Counted | None = None
        self._noted = 0
        self.warning = ""
        """What the user should hear; "" while nothing is near its end."""

    def begin(self, connection: Counted) -> None:
        """From now on this one carries; the one before has ended."""
        self.note()
        with self._lock:
            self._connection, self._noted = connection, 0
        self._keep(0, connections=1)

    def note(self) -> None:
        """Add what was carried since."""
        with self._lock:
            if self._connection is None:
                return
            more, self._noted = (
                self._connection.wire_bytes - self._noted,
                self._connection.wire_bytes,
            )
        if more:
            self._keep(more, connections=0)

    def _keep(self, size_bytes: int, *, connections: int) -> None:
        self.warning = warn_of_use(self._add(size_bytes, connections))
