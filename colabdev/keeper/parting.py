"""Gives a rented runtime back when it is not wanted any more: at the end of its ttl, or of the jobs that
it was to end with. What `down` does; without a computer it does it alone (`agent/lease_end.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from colabdev.core.parting import is_ttl_over, why_give_back
from colabdev.errors import ColabdevError
from colabdev.models import Phase, RuntimeRecord
from colabdev.ports import JobStore, RuntimeStore
from colabdev.services.known_jobs import readable_jobs

log = logging.getLogger(__name__)

LOOK_S = 1.0
COURTESY_S = 15.0
"""Whoever follows the last job gives the runtime back themselves, and says so."""
RETRY_FIRST_S = 60.0
RETRY_CAP_S = 600.0

GiveBack = Callable[[RuntimeRecord], str]
"""What `down` does, for this very runtime; returns why it could not, "" when it did."""


class Parting:
    """Looks every second, at state files alone."""

    def __init__(
        self,
        name: str,
        *,
        runtimes: RuntimeStore,
        jobs: JobStore,
        give_back: GiveBack,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._runtimes = runtimes
        self._jobs = jobs
        self._give_back = give_back
        self._clock = clock
        self._due_since: float | None = None
        self._retry_at = float("-inf")
        self._retry_s = RETRY_FIRST_S
        self.notice = ""
        """Why the runtime stays although nobody wants it, for the user; "" otherwise."""

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping`, which giving back brings about, too."""
        while not stopping.wait(LOOK_S):
            try:
                self.look()
            except ColabdevError as exc:
                log.warning("%s", exc.message)  # Unreadable for now: nothing follows from that.

    def look(self) -> None:
        """Give the runtime back if it is time for that."""
        record = self._runtimes.load(self._name)
        if record is None or record.phase is not Phase.UP:
            return
        now = datetime.now(UTC)
        why = why_give_back(record, readable_jobs(self._jobs), now) if record.can_leave else ""
        if not why:
            self._due_since, self._retry_s, self.notice = None, RETRY_FIRST_S, ""
            self._retry_at = float("-inf")
            return
        if self._due_since is None:
            self._due_since = self._clock()
        courtesy_s = 0.0 if is_ttl_over(record, now) else COURTESY_S
        if self._clock() < max(self._due_since + courtesy_s, self._retry_at):
            return
        log.info("giving %s back: %s", self._name, why)
        problem = self._give_back(record)
        if problem:
            log.warning("cannot give %s back: %s", self._name, problem)
            self.notice = f"{why}, and it could not be given back: {problem}; it is tried again"
            self._retry_at = self._clock() + self._retry_s
            self._retry_s = min(self._retry_s * 2, RETRY_CAP_S)
