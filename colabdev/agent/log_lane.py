"""The share of a carrier that brings its job's log to a store, by one process at a time."""

from __future__ import annotations

import time
from functools import partial
from typing import Optional, Set

from . import jobdir
from .child import Child
from .jobdir import JobFiles
from .lane import Timing, guarded
from .log_segments import MOST_BYTES, LogTransfer

ENOUGH_BYTES = 1024**2
"""So much is sealed before its time."""

_TRIES = 5
_LONGEST_RETRY_S = 600.0


class LogLane:
    """What goes to one store of one log."""

    def __init__(self, transfer: LogTransfer, job: JobFiles, timing: Timing) -> None:
        self._transfer = transfer
        self._job = job
        self._timing = timing
        self._child: Optional[Child] = None
        self._trusted: Set[str] = set()
        self._sent = 0
        self._is_last = self._is_over = False
        self._failures = 0
        self._last_at = time.monotonic()

    @property
    def fd(self) -> int:
        """What wakes us; -1 when nothing runs."""
        return self._child.fd if self._child else -1

    def is_idle(self) -> bool:
        """Nothing runs."""
        return self._child is None

    def is_done(self) -> bool:
        """Nothing runs; of a job that has ended all is there, or cannot be brought."""
        has_given_up = self._is_last and self._failures >= _TRIES
        return self._child is None and (self._is_over or has_given_up)

    def step(self, has_ended: bool) -> None:
        """Hear what the process says, and begin another when it is time for one."""
        self._listen()
        if has_ended and not self._is_last and self._child is None:
            self._is_last, self._failures = True, 0
        if self._child is None and not self.is_done() and self._is_due():
            self._last_at = time.monotonic()
            trusted = set(self._trusted)
            self._child = Child(partial(guarded, partial(self._transfer.bring, trusted)))

    def _is_due(self) -> bool:
        passed_s = time.monotonic() - self._last_at
        if self._failures:
            pause_s: float = self._timing.retry_s * 2 ** min(self._failures, 10)
            return passed_s >= min(pause_s, _LONGEST_RETRY_S)
        if self._is_last:
            return True
        fresh = min(jobdir.size_of(self._job.log), MOST_BYTES) - self._sent
        is_much = fresh >= ENOUGH_BYTES
        return fresh > 0 and passed_s >= (
            self._timing.log_much_s if is_much else self._timing.log_s
        )

    def _listen(self) -> None:
        child = self._child
        if child is None:
            return
        for message in child.messages():
            if "segment" in message:
                self._trusted.add(str(message["segment"]))
            self._sent = int(message.get("sent", self._sent))
            self._is_over = self._is_over or bool(message.get("ended"))
        if child.has_ended():
            self._child = None
            self._failures = 0 if "done" in child.last else self._failures + 1
        elif time.monotonic() - child.heard > self._timing.stall_s:
            child.kill()
