"""Whether a rented runtime is still to be kept alive: while somebody uses it, within its bounds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from colabdev.errors import ColabdevError

log = logging.getLogger(__name__)

IDLE_S = 3600.0
"""Without a connection, a request or a running job for this long nobody uses it."""
JOBS_INTERVAL_S = 60.0
BALANCE_INTERVAL_S = 600.0


@dataclass(frozen=True, slots=True)
class Signs:
    """What a decision is made of; the last two ask over the network, and may raise `ColabdevError`."""

    idle_s: Callable[[], float]
    keep_until: datetime
    has_job: Callable[[], bool]
    may_go_on: Callable[[], bool]
    """The account's balance allows it."""


class Demand:
    """Asked every second; asks over the network far less often. What could not be asked says nothing:
    the last answer holds."""

    def __init__(
        self,
        signs: Signs,
        *,
        idle_limit_s: float = IDLE_S,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._signs = signs
        self._idle_limit_s = idle_limit_s
        self._clock = clock
        self._now = now
        self._jobs = _Remembered(signs.has_job, JOBS_INTERVAL_S, clock)
        self._balance = _Remembered(signs.may_go_on, BALANCE_INTERVAL_S, clock)
        self.notice = ""
        """Why it is not kept alive, for the user; "" while it is."""

    def is_wanted(self) -> bool:
        """Whether to keep it alive now."""
        notice = self._reason()
        if notice != self.notice:
            log.info("%s", notice or "kept alive again")
            self.notice = notice
        return not notice

    def _reason(self) -> str:
        if self._now() >= self._signs.keep_until:
            return (
                "its ttl is over: it is not kept alive any more, and Colab takes it when it likes"
            )
        if not self._balance.ask():
            return "the balance of compute units is used up: it is not kept alive any more"
        if self._signs.idle_s() > self._idle_limit_s and not self._jobs.ask():
            return (
                f"unused for {self._idle_limit_s / 3600:g} h and without a job: it is not kept alive "
                "until it is used again"
            )
        return ""


class _Remembered:
    """An answer, asked for again when it is older than that."""

    def __init__(
        self, question: Callable[[], bool], interval_s: float, clock: Callable[[], float]
    ) -> None:
        self._question = question
        self._interval_s = interval_s
        self._clock = clock
        self._asked = float("-inf")
        self._answer = True

    def ask(self) -> bool:
        if self._clock() - self._asked >= self._interval_s:
            self._asked = self._clock()
            try:
                self._answer = self._question()
            except ColabdevError as exc:
                log.warning("%s", exc.message)
        return self._answer
