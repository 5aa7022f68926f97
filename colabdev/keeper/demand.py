"""Whether a rented runtime is still to be kept alive: while somebody uses it, within its bounds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from colabdev.errors import ColabdevError

log = logging.getLogger(__name__)

T = TypeVar("T")

IDLE_S = 3600.0
"""Without a connection, a request or a running job for this long nobody uses it."""
UNATTENDED_S = 600.0
"""Without a connection or a request for this long, what it costs is for unattended work."""
JOBS_INTERVAL_S = 60.0
FUNDS_INTERVAL_S = 600.0
SHORT_BALANCE_H = 2.0
_LET_GO = "it is not kept alive any more, and Colab takes it when it likes"
MOST_SAVING_S = 1800.0
"""For so long and no longer one that nobody pays for is kept for its jobs to save."""


@dataclass(frozen=True, slots=True)
class Funds:
    """How the account stands, in compute units."""

    balance: float
    hours_left: float | None
    """How long the balance lasts for all that runs; None when nothing costs anything."""
    goes_on_without: bool = False
    """The user goes on also when it is not positive."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What a decision is made of; `has_job` and `funds` ask over the network: they may raise
    `ColabdevError`."""

    idle_s: Callable[[], float]
    keep_until: Callable[[], datetime]
    has_ttl: Callable[[], bool]
    """Somebody set that time; else it is the age that Colab's runtimes surely reach."""
    max_units: float | None
    """What it may cost while nobody uses it."""
    has_job: Callable[[], bool]
    funds: Callable[[], Funds]
    overspent: Callable[[float], str] = lambda balance: ""
    """By that balance the job which has cost on new machines what was agreed to; "" while none has."""
    have_saved: Callable[[], bool] = lambda: True
    """Whether its jobs saved what they could since `Demand.is_unpaid`."""


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
        self._unpaid_since: float | None = None
        self._has_job = _Remembered(signs.has_job, True, JOBS_INTERVAL_S, clock)
        self._funds = _Remembered[Funds | None](signs.funds, None, FUNDS_INTERVAL_S, clock)
        self._attended_balance: float | None = None
        self.notice = ""
        """Why it is not kept alive, or will not be for long, for the user; "" when all is well."""
        self.let_go = ""
        """Why it was let go before its time; "" while it is kept, and when that was over first. A ttl is
        in its record; without one it is Colab that ends it by its age, as it does any."""

    def is_wanted(self) -> bool:
        """Whether to keep it alive now."""
        is_over = self._now() >= self._signs.keep_until()
        unpaid = "" if is_over else self._why_unpaid()
        if not is_over:
            self.let_go = unpaid or self._why_unused()
        is_saving = self._is_saving(unpaid)
        reason = self._why_over() if is_over else self.let_go
        notice = reason or self._warning()
        if notice != self.notice:
            log.info("%s", notice or "kept alive")
            self.notice = notice
        return is_saving or not reason

    @property
    def is_unpaid(self) -> bool:
        """What it may cost is used up: it is let go once its jobs have saved."""
        return self._unpaid_since is not None

    def funds_end(self) -> datetime | None:
        """When the balance will be used up, if that ends it, by what is known already."""
        funds = self._funds.answer
        if funds is None or funds.goes_on_without or funds.hours_left is None:
            return None
        return self._now() + timedelta(hours=funds.hours_left, seconds=-self._funds.age_s)

    def _why_over(self) -> str:
        if self._signs.has_ttl():
            return f"its ttl is over: {_LET_GO}"
        return f"it is as old as Colab lets a runtime become at least: {_LET_GO}"

    def _is_saving(self, unpaid: str) -> bool:
        if not unpaid:
            self._unpaid_since = None
            return False
        if self._unpaid_since is None:
            self._unpaid_since = self._clock()
        is_late = self._clock() - self._unpaid_since >= MOST_SAVING_S
        return not (is_late or self._signs.have_saved())

    def _why_unpaid(self) -> str:
        funds = self._funds.ask()
        if funds is None:
            return ""
        if funds.balance <= 0 and not funds.goes_on_without:
            return "the balance of compute units is used up: it is not kept alive any more"
        spent = self._spent_unattended(funds, self._signs.idle_s())
        if self._signs.max_units is not None and spent >= self._signs.max_units:
            return (
                f"unattended it has cost {spent:.1f} compute units, and max_units is "
                f"{self._signs.max_units:g}: it is not kept alive until it is used again"
            )
        if job := self._signs.overspent(funds.balance):
            return (
                f"{job} has cost all that was agreed to for new machines: its runtime is not kept "
                "alive any more"
            )
        return ""

    def _why_unused(self) -> str:
        if self._signs.idle_s() > self._idle_limit_s and not self._has_job.ask():
            return (
                f"unused for {self._idle_limit_s / 3600:g} h and without a job: it is not kept alive "
                "until it is used again"
            )
        return ""

    def _spent_unattended(self, funds: Funds, idle_s: float) -> float:
        """By the balance, which all of the account's runtimes share, since somebody used this one."""
        if self._attended_balance is None or idle_s <= UNATTENDED_S:
            self._attended_balance = funds.balance
        return self._attended_balance - funds.balance

    def _warning(self) -> str:
        funds = self._funds.ask()
        left_h = None if funds is None or funds.goes_on_without else funds.hours_left
        if left_h is None or left_h >= SHORT_BALANCE_H:
            return ""
        return f"the balance of compute units lasts for {left_h:.1f} h of what runs now"


class _Remembered(Generic[T]):
    """An answer, asked for again when it is older than that; `first` until there is one."""

    def __init__(
        self, question: Callable[[], T], first: T, interval_s: float, clock: Callable[[], float]
    ) -> None:
        self._question = question
        self.answer = first
        self._interval_s = interval_s
        self._clock = clock
        self._asked = float("-inf")

    def ask(self) -> T:
        if self._clock() - self._asked >= self._interval_s:
            self._asked = self._clock()
            try:
                self.answer = self._question()
            except ColabdevError as exc:
                log.warning("%s", exc.message)
        return self.answer

    @property
    def age_s(self) -> float:
        """How old it is, at least."""
        return self._clock() - self._asked
