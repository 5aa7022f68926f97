"""Whether a job whose machine died goes on on a new one, and from what. Values in, values out.

The order of the questions is part of the answer: nothing is asked of a machine, and nothing is spent,
before what is known here allows it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from colabdev.core.job_records import is_machine_gone
from colabdev.core.parting import is_ttl_over
from colabdev.models import JobRecord, JobState, Phase, RuntimeRecord
from colabdev.models.orders import MachineWish
from colabdev.models.recovery import ASKED, Consent, Continuation, PastAttempt, Resumed, Try

MACHINE = "machine"
CHOSEN = "chosen"
CLAIMED = "claimed"
RECORDED = "recorded"
STARTED = "started"
STEPS = (MACHINE, CHOSEN, CLAIMED, RECORDED, STARTED)
"""What is done for one attempt, in this order; written down once it is done."""

RENTED = frozenset({"colab"})
FREE = frozenset({"local"})
"""The providers that we can ask for another machine, at a price or for nothing."""

MOST_PER_HOUR = 4
RETRY_FIRST_S = 5.0
RETRY_CAP_S = 600.0
USER_RETRY_CAP_S = 60.0
"""While its user is waited for: once they have answered it is to go on soon."""


class Verdict(Enum):
    """What to do about a job."""

    LEAVE = "leave"
    """It runs, or has ended, or nobody agreed to more."""
    GO_ON = "go on"
    WAIT = "wait"
    NEVER = "never"
    """Somebody agreed, and it cannot be, or must not."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict; for WAIT and NEVER with the reason, as a half sentence for people."""

    verdict: Verdict
    why: str = ""
    until: datetime | None = None
    """WAIT: not before that."""


_LEAVE = Decision(Verdict.LEAVE)
_GO_ON = Decision(Verdict.GO_ON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that is known here of a job."""

    job: JobRecord
    runtime: RuntimeRecord | None
    """The record of that name as it is now; None: it was given back."""
    going_on: Continuation
    has_order: bool
    now: datetime
    by_hand: bool = False
    """Somebody typed that it is to go on: that is more than was agreed to beforehand."""


def is_candidate(job: JobRecord) -> bool:
    """Whether going on with the job may ever be thought of: cheap, and of its record alone."""
    return job.ours and job.continues is not None and _is_unended(job)


def _is_unended(job: JobRecord) -> bool:
    return not job.state.is_end or job.state is JobState.LOST


def decide(case: Case) -> Decision:
    """What to do about the job now. That its machine is gone must be in `runtime`'s phase, by its
    provider's word: a machine that is merely not reached is not gone."""
    if not _is_open(case):
        return _LEAVE
    if case.by_hand:
        return _GO_ON
    if case.going_on.is_over:
        return Decision(Verdict.NEVER, case.going_on.why)
    return _within_bounds(case) or _until(case.going_on, case.now) or _GO_ON


def _is_open(case: Case) -> bool:
    """Whether the job has no machine, and there is somebody who wants it to have one."""
    job, runtime = case.job, case.runtime
    may_ever = is_candidate(job) or (case.by_hand and _is_unended(job))
    if not may_ever or not case.has_order:
        return False
    if runtime is None:
        # It was given back: no death by itself, but a new machine goes as well when it is of no use.
        return case.by_hand or case.going_on.is_over
    if runtime.phase is Phase.RELEASING:
        return case.going_on.is_over and not case.by_hand
    return is_machine_gone(job, runtime) or is_in_the_making(job, case.going_on, runtime)


def is_in_the_making(job: JobRecord, going_on: Continuation, runtime: RuntimeRecord) -> bool:
    """Whether the job's attempt was written down for the machine that is there, and not started."""
    return (
        going_on.step == RECORDED
        and going_on.attempt == job.attempt
        and going_on.request_id == runtime.request_id == job.request_id
        and runtime.phase is not Phase.LOST
    )


def _within_bounds(case: Case) -> Decision | None:
    """What forbids one more start now; None: nothing, also for one that was counted already."""
    consent, runtime = case.job.continues, case.runtime
    assert consent is not None, "a candidate has it"
    assert runtime is not None, "it is known, or nothing is open"
    if is_in_the_making(case.job, case.going_on, runtime):
        return None
    if runtime.request_id == case.job.request_id and is_ttl_over(runtime, case.now):
        return Decision(
            Verdict.NEVER, "its machine's ttl was over, and after that nothing is begun anew"
        )
    tries = counted(case.job, case.going_on)
    if len(tries) >= consent.times:
        times = "once" if consent.times == 1 else f"{consent.times} times"
        return Decision(Verdict.NEVER, f"it has gone on {times}, as often as was agreed")
    recent = [one.time for one in tries if case.now - one.time < timedelta(hours=1)]
    if len(recent) >= MOST_PER_HOUR:
        why = f"it was started {len(recent)} times within the hour"
        return Decision(Verdict.WAIT, why, recent[-MOST_PER_HOUR] + timedelta(hours=1))
    return None


def _until(going_on: Continuation, now: datetime) -> Decision | None:
    if going_on.waits_until is None or going_on.waits_until <= now:
        return None
    return Decision(Verdict.WAIT, going_on.why, going_on.waits_until)


def counted(job: JobRecord, going_on: Continuation) -> Sequence[Try]:
    """The starts that count: the one in the making is counted before its job's record names it."""
    return [one for one in going_on.tries if one.attempt <= job.attempt]


def starts_left(case: Case) -> int:
    """How often the job may still go on by itself, by what was agreed."""
    consent = case.job.continues
    if consent is None or not is_candidate(case.job) or not case.has_order or case.going_on.is_over:
        return 0
    return max(consent.times - len(counted(case.job, case.going_on)), 0)


def makes_progress(going_on: Continuation, newest: Resumed | None) -> bool:
    """Whether a start from `newest` would be from further on than the last one that ran. The first is
    always: so a job that died before its first checkpoint begins anew, once."""
    ran = [one for one in going_on.tries if one.ran]
    if not ran:
        return True
    before = ran[-1].began_from
    return newest is not None and (before is None or newest.rank > before.rank)


def no_progress(going_on: Continuation) -> str:
    """Why it stops, when there is none."""
    before = next(one.began_from for one in reversed(going_on.tries) if one.ran)
    at = "nothing" if before is None or before.step is None else f"step {before.step}"
    return f"it began from {at} the last time, and nothing newer was safe when its machine died"


def begin_attempt(
    job: JobRecord, going_on: Continuation, request_id: str, token: str
) -> Continuation:
    """The attempt that is made on that machine: the one at hand, or the next, with that random `token`,
    when the one at hand was for another machine."""
    if going_on.request_id == request_id and going_on.attempt > job.attempt:
        return going_on
    return replace(
        going_on,
        # A number that was claimed for a machine that died is never given out again.
        attempt=max(job.attempt, going_on.attempt) + 1,
        token=token,
        request_id=request_id,
        step=MACHINE,
        began_from=None,
        path="",
    )


def skip_number(going_on: Continuation, token: str) -> Continuation:
    """The attempt at hand under the next number, with that random token: nobody ever has its own."""
    return replace(going_on, attempt=going_on.attempt + 1, token=token)


def has_done(going_on: Continuation, step: str) -> bool:
    """Whether that step was done for the attempt at hand."""
    return going_on.step in STEPS and STEPS.index(going_on.step) >= STEPS.index(step)


def record_attempt(job: JobRecord, going_on: Continuation, log_bytes: int) -> JobRecord:
    """The job's record from the moment on in which the attempt may start. Done twice it is done once."""
    if job.attempt == going_on.attempt:
        return job
    gone = PastAttempt(job.attempt, job.request_id, job.started, log_bytes)
    return replace(
        job,
        request_id=going_on.request_id,
        attempt=going_on.attempt,
        state=JobState.QUEUED,
        exit_code=None,
        signal=None,
        started=None,
        ended=None,
        log_bytes=None,
        reason=None,
        past=(*job.past, gone),
        resumed=going_on.began_from,
    )


def record_try(going_on: Continuation, now: datetime) -> Continuation:
    """Counted before it starts: what cannot be counted is not started. Done twice it is done once."""
    tried = Try(now, going_on.attempt, going_on.began_from)
    is_counted = any(one.attempt == going_on.attempt for one in going_on.tries)
    tries = going_on.tries if is_counted else (*going_on.tries, tried)
    return replace(going_on, step=RECORDED, tries=tries)


def record_start(going_on: Continuation) -> Continuation:
    """It runs, and nothing is in its way any more."""
    *before, last = going_on.tries
    return replace(
        going_on,
        step=STARTED,
        tries=(*before, replace(last, ran=True)),
        failures=0,
        failures_there=0,
        user_awaited=None,
        waits_until=None,
        why="",
        replaces="",
    )


def put_off(going_on: Continuation, why: str, now: datetime) -> Continuation:
    """It did not work out now, and is tried again, each time later."""
    cap_s = RETRY_CAP_S if going_on.user_awaited is None else USER_RETRY_CAP_S
    delay_s = min(RETRY_FIRST_S * 2.0**going_on.failures, cap_s)
    return replace(
        going_on,
        failures=going_on.failures + 1,
        waits_until=now + timedelta(seconds=delay_s),
        why=why,
    )


def give_up(going_on: Continuation, why: str) -> Continuation:
    """It does not go on by itself any more."""
    return replace(going_on, is_over=True, why=why, waits_until=None)


def begin_anew(going_on: Continuation) -> Continuation:
    """Somebody typed that it is to go on: what was over is not, and what it costs counts from now."""
    if not going_on.is_over:
        return going_on
    return replace(going_on, is_over=False, why="", balance=None)


def once_more(job: JobRecord, going_on: Continuation) -> Consent:
    """What they agree to with that: as before, and one start if none is left."""
    known = job.continues or Consent(times=0, agreed=ASKED)
    return replace(known, times=max(known.times, len(counted(job, going_on)) + 1))


def told_of_checkpoint(argv: Sequence[str], resume: str | None, path: str | None) -> list[str]:
    """The command's words, and behind them how the script is told of the checkpoint at `path`. What is
    said last counts, as with most parsers."""
    if resume is None or path is None:
        return list(argv)
    return [*argv, *(word.replace("{path}", path) for word in shlex.split(resume))]


def units_left(
    consent: Consent | None, going_on: Continuation, balance: float | None
) -> float | None:
    """What may still be spent; None: no limit was agreed. What the account lost since the first new
    machine counts, whatever it was spent on: nobody can tell it apart."""
    if consent is None or consent.max_units is None:
        return None
    if balance is None or going_on.balance is None:
        return consent.max_units
    return consent.max_units - max(going_on.balance - balance, 0.0)


def wish_within(wish: MachineWish, units: float | None) -> MachineWish:
    """The machine to ask for: as the one before, for no more than that."""
    if units is None:
        return wish
    limits = [limit for limit in (units, wish.hardware.max_units) if limit is not None]
    return replace(wish, hardware=replace(wish.hardware, max_units=min(limits)))
