"""What is said of a job whose machine died: while its next attempt is made, once that runs, and when
none comes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from colabdev.core.job_records import as_it_stands
from colabdev.core.recovery import (
    MACHINE,
    Case,
    Decision,
    Verdict,
    decide,
    is_in_the_making,
)
from colabdev.core.times import format_clock
from colabdev.models import JobRecord, JobState
from colabdev.models.recovery import Resumed

_SOON = timedelta(seconds=90)
_ITS_RUNTIME_WENT = "its runtime went before it ended"


def goes_on(decision: Decision) -> bool:
    """Whether it is being brought to its next machine, now or later."""
    return decision.verdict in (Verdict.GO_ON, Verdict.WAIT)


def has_begun(case: Case) -> bool:
    """Whether the attempt that the record names was started on its machine, as far as is known here."""
    runtime = case.runtime
    return runtime is None or not is_in_the_making(case.job, case.going_on, runtime)


def describe_hand_over(case: Case, decision: Decision) -> str:
    """What is being done about a job that goes on, in half a sentence."""
    if decision.verdict is Verdict.WAIT:
        return f"it is tried again {_when(decision.until, case.now)}: {decision.why}"
    making = case.going_on
    is_made = making.attempt > case.job.attempt or not has_begun(case)
    if not making.step or not is_made:
        return "starting a new machine for it"
    if making.step == MACHINE:
        return f"attempt {making.attempt} has its machine, and is given its checkpoint"
    return describe_start(making.attempt, making.began_from)


def describe_start(attempt: int, began_from: Resumed | None) -> str:
    """Which attempt comes, and from where."""
    return f"starting attempt {attempt}{_beginning(began_from)}"


def describe_loss(job: JobRecord, decision: Decision) -> str:
    """That nothing comes after an attempt whose end nobody saw, and why."""
    why = decision.why or _ITS_RUNTIME_WENT
    return f"{job.id} is lost: {why.removeprefix(f'{job.id} ')}"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a job whose machine died."""

    job: str
    goes_on: bool
    says: str
    """A sentence, for people."""


def fate_of(case: Case) -> Fate | None:
    """None for one that is not known to have lost its machine, or that had ended."""
    job, decision = case.job, decide(case)
    if goes_on(decision):
        return Fate(job.id, True, f"{job.id} continues: {describe_hand_over(case, decision)}")
    if not job.ours or as_it_stands(job, case.runtime).state is not JobState.LOST:
        return None
    if not case.has_order:
        return Fate(job.id, False, f"{job.id} is lost with it")
    typed = f"colabdev run --continue {job.id}"
    loss = f"{job.id} is lost with it: nobody agreed that it continues"
    if decision.verdict is Verdict.NEVER:
        loss = describe_loss(job, decision)
    return Fate(job.id, False, loss if typed in loss else f"{loss}; {typed} goes on with it")


def news_of(case: Case, heard: datetime | None) -> tuple[str, str]:
    """What happened to the job's machines, as a key that is another one when more did, and as a
    sentence; ("", "") when nothing did. `heard`: when the last byte came here of the attempt before."""
    job, decision = case.job, decide(case)
    is_lost = as_it_stands(job, case.runtime).state is JobState.LOST
    if decision.verdict is Verdict.NEVER and is_lost:
        return f"{job.attempt} never", describe_loss(job, decision)
    if goes_on(decision):
        key = f"{job.attempt} {decision.verdict.value} {decision.why}"
        return key, f"{job.id}: its machine died; {describe_hand_over(case, decision)}"
    if not job.past:
        return "", ""
    last = f", last heard of at {format_clock(heard, case.now)}" if heard else ""
    died = f"{job.id}: attempt {job.past[-1].attempt} ended unseen{last}"
    since = f" since {format_clock(job.started, case.now)}" if job.started else ""
    now = f"has {job.state.value}" if job.state.is_end else f"runs{since}"
    return (
        f"{job.attempt} began",
        f"{died}; attempt {job.attempt} {now}{_beginning(job.resumed)}",
    )


def _when(until: datetime | None, now: datetime) -> str:
    if until is None or until - now < _SOON:
        return "soon"
    return f"at {format_clock(until, now)}"


def _beginning(resumed: Resumed | None) -> str:
    if resumed is None:
        return " from the beginning"
    return f" from step {resumed.step}" if resumed.step is not None else " from its checkpoint"
