"""What is remembered of jobs that may go on on another machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

ASKED = "asked"
BY_OPTION = "yes"
FREE = "free"
AGREEMENTS = (ASKED, BY_OPTION, FREE)
"""How somebody agreed: to the question, by `--yes`, or not at all where it costs nothing."""

USUAL_TIMES = 3


@dataclass(frozen=True, slots=True)
class Consent:
    """That a job may go on on a new machine when its own has died, and what that may come to."""

    times: int = USUAL_TIMES
    """On so many new machines at most."""
    max_units: float | None = None
    """What they may cost together; None where machines cost nothing."""
    agreed: str = FREE
    """One of AGREEMENTS."""


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """An attempt of a job that is over, and that nobody saw end: its machine died."""

    attempt: int
    request_id: str
    """Its machine's."""
    started: datetime | None
    log_bytes: int
    """How much of its log is here."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The checkpoint that an attempt began from."""

    attempt: int
    """Whose it was."""
    step: int | None
    """None for one that tells no step."""

    @property
    def rank(self) -> tuple[int, int]:
        """The higher, the further the job had come."""
        return self.attempt, -1 if self.step is None else self.step


@dataclass(frozen=True, slots=True)
class Try:
    """A start of the job on a new machine."""

    time: datetime
    attempt: int
    began_from: Resumed | None
    ran: bool = False
    """It is known to have begun."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """How going on with a job stands; its `recovery.json`. The attempt in the making is void once its
    machine is another one: then the next has another number, because nobody knows what ran."""

    attempt: int = 0
    """The one in the making, or the last one made; 0: none yet."""
    token: str = ""
    """By which the claim of its number is known to be ours."""
    request_id: str = ""
    """The machine that it is made on; "" while there is none."""
    step: str = ""
    """The last step that was done for it, one of `core.recovery.STEPS`."""
    began_from: Resumed | None = None
    """The checkpoint that was chosen for it."""
    path: str = ""
    """Where that is on the machine; "" for none."""
    replaces: str = ""
    """The machine that had died when another one was last asked for: what came is ours to give back."""
    balance: float | None = None
    """The account's, before the first machine was asked for; what is missing since was spent."""
    tries: tuple[Try, ...] = ()
    """Every start, oldest first."""
    failures: int = 0
    """So many times in a row it could not be gone on with, for now."""
    failures_there: int = 0
    """Likewise while the new machine was there, which costs; but for waiting for its user."""
    user_awaited: datetime | None = None
    """Since when that waits to be let into its user's Drive."""
    waits_until: datetime | None = None
    """Not tried again before."""
    why: str = ""
    """Why it does not go on, for people; "" when nothing is in the way."""
    is_over: bool = False
    """It will not go on by itself, whatever comes."""


@dataclass(frozen=True, slots=True)
class Going:
    """How somebody wants a job to go on."""

    by_hand: bool = False
    """Whatever the bounds that were agreed to."""
    accept_rollback: bool = False
    """Also from a checkpoint that is older than one that was proved."""
