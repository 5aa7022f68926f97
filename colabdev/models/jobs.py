"""What is remembered of a job, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from colabdev.agent import jobdir
from colabdev.models.recovery import Consent, PastAttempt, Resumed

TIMED_OUT_STATUS = 124
"""As of `timeout`, however the command ended then."""


class JobState(StrEnum):
    """How a job stands; the words of `agent/jobdir.py`, which are also those of `ps`."""

    QUEUED = jobdir.QUEUED
    STARTING = jobdir.STARTING
    RUNNING = jobdir.RUNNING
    SUCCEEDED = jobdir.SUCCEEDED
    FAILED = jobdir.FAILED
    STOPPED = jobdir.STOPPED
    TIMED_OUT = jobdir.TIMED_OUT
    LOST = jobdir.LOST
    UNKNOWN = jobdir.UNKNOWN

    @property
    def is_end(self) -> bool:
        """Nothing will come after it."""
        return self.value in jobdir.ENDED_STATES


@dataclass(frozen=True, slots=True)
class JobRecord:
    """All that this computer remembers of one job; its `job.json`. No value of its environment."""

    id: str
    name: str
    runtime: str
    request_id: str
    """The runtime's, so that a later machine of the same name is not taken for it."""
    argv: tuple[str, ...]
    """As typed: SCRIPT and its arguments, or `-m`, MODULE and its arguments."""
    created: datetime
    attempt: int = jobdir.FIRST_ATTEMPT
    state: JobState = JobState.QUEUED
    exit_code: int | None = None
    signal: int | None = None
    started: datetime | None = None
    ended: datetime | None = None
    log_bytes: int | None = None
    """How long the log of a job that has ended is; None before."""
    reason: str | None = None
    """One of `jobdir.REASONS`: why it failed, where its status alone does not tell."""
    gives_back: bool = False
    """Its runtime is given back when it has ended."""
    ours: bool = True
    """This runtime record's; False of one that another computer started on the same host."""
    continues: Consent | None = None
    """That it may go on on a new machine; None: nobody agreed to that, or not any more."""
    past: tuple[PastAttempt, ...] = ()
    """The attempts before this one, oldest first."""
    resumed: Resumed | None = None
    """What this attempt began from; None: from nothing."""

    @property
    def exit_status(self) -> int | None:
        """Its exit status as a shell would have it; None while, and when, nobody knows it."""
        if self.state is JobState.TIMED_OUT:
            return TIMED_OUT_STATUS
        return self.exit_code if self.signal is None else 128 + self.signal


@dataclass(frozen=True, slots=True)
class Begin:
    """Where in a log to begin; of both the later place, of none its first byte."""

    tail: int | None = None
    """With that many last lines."""
    since_s: float | None = None
    """With what was written in the last so many seconds."""

    def __bool__(self) -> bool:
        return self != Begin()
