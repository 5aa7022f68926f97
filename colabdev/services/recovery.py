"""Going on with a job whose machine died: on a new one, from its newest safe checkpoint, by consent.

    gone       its provider says so; a machine that is merely not reached is waited for
    machine    a new one like it, under the same name
    chosen     the newest checkpoint of its lineage that verifies is on it
    claimed    the number of the attempt is ours, by the word of the stores
    recorded   the attempt is counted, and the job's record names it
    started    it runs

Each step is written down when it is done, so that whoever comes after a kill goes on with the next. An
attempt that may have run is never made a second time: with another machine comes another number.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from colabdev.core.recovery import (
    CHOSEN,
    CLAIMED,
    RENTED,
    Decision,
    Verdict,
    begin_anew,
    begin_attempt,
    decide,
    give_up,
    has_done,
    is_candidate,
    is_in_the_making,
    makes_progress,
    no_progress,
    once_more,
    put_off,
    record_attempt,
    record_start,
    record_try,
    skip_number,
    units_left,
    wish_within,
)
from colabdev.crash_points import crash_point
from colabdev.errors import ColabdevError, DriveNotAllowed, JobNotFound
from colabdev.models import JobRecord, Phase, RuntimeRecord
from colabdev.models.orders import JobOrder, MachineWish
from colabdev.models.recovery import Continuation, Going, Resumed
from colabdev.ports import JobStore, Progress, Provider, RuntimeStore
from colabdev.ports.recovery import RecoveryStore
from colabdev.services.known_jobs import readable_jobs
from colabdev.services.known_runtimes import note_lost
from colabdev.services.recovery_cases import RecoveryCases
from colabdev.services.recovery_steps import CannotGoOn, Making, RecoverySteps

MOST_FAILURES = 6
"""So often in a row a machine that is there may fail us before it is given back: it costs."""
USER_PATIENCE = timedelta(minutes=30)
"""So long one waits that only its user can let into their Drive."""
MOST_VOID = 4
"""So many numbers in a row may have been claimed by those who died then."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: the job as it stands, and what was decided; GO_ON when it goes on now."""

    job: JobRecord
    decision: Decision


class _Unwanted(Exception):
    """It ended after all, or somebody stopped it, or gave its machine back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Makes the next attempt of a job. One process at a time for each job; others wait for it."""

    runtimes: RuntimeStore
    jobs: JobStore
    plans: RecoveryStore
    cases: RecoveryCases
    provider: Callable[[str], Provider]
    steps: RecoverySteps
    secrets: Callable[[JobRecord, Sequence[str], bool], Mapping[str, str]]
    """The values of these variables of the job, as far as somebody has them: its keeper, and, when it is
    gone on with by hand, whoever types that."""
    hold: Callable[[JobRecord, Mapping[str, str]], None]
    """Has the keeper of its machine keep them for the next time."""
    balance: Callable[[str], float | None]
    """What the account at that provider has left, in units; None where machines cost nothing."""
    give_back: Callable[[RuntimeRecord, Progress], None]
    """Releases this very machine."""

    def go_on(self, job_id: str, going: Going, progress: Progress) -> Outcome:
        """Make the job go on if it is to. ColabdevError when it cannot now, or never can;
        `recovery.json` says then until when to wait, or that it is over."""
        with self.plans.at_work(job_id):
            job = self._load(job_id)
            self._note_if_gone(job)
            decision = decide(self.cases.of(job, by_hand=going.by_hand))
            if decision.verdict is not Verdict.GO_ON:
                return Outcome(job, decision)
            if going.by_hand:
                job = self._agreed(job)
            try:
                return Outcome(self._make(job, going, progress), decision)
            except _Unwanted:
                self._let_go(job_id, progress)
                return Outcome(self._load(job_id), Decision(Verdict.LEAVE))
            except ColabdevError as exc:
                self._note_failure(job_id, exc, progress)
                raise

    def _load(self, job_id: str) -> JobRecord:
        job = self.jobs.load(job_id)
        if job is None:
            raise JobNotFound(f"no job is called {job_id!r}", hint="colabdev ps lists them")
        return job

    def _agreed(self, job: JobRecord) -> JobRecord:
        """Whoever types that it is to go on agrees to this once more, whatever is used up."""
        going_on = self.plans.continuation(job.id)
        self.plans.save_continuation(job.id, begin_anew(going_on))
        agreed = once_more(job, going_on)
        return self.jobs.update(job.id, lambda known: replace(known, continues=agreed)) or job

    def _note_if_gone(self, job: JobRecord) -> None:
        """Ask the provider about the job's machine. A failure to ask raises: nothing follows from it."""
        record = self.runtimes.load(job.runtime)
        if record is None or record.phase is not Phase.UP or record.request_id != job.request_id:
            return
        if self.provider(record.provider).find(record.name) is None:
            note_lost(self.runtimes, record)

    def _make(self, job: JobRecord, going: Going, progress: Progress) -> JobRecord:
        order = self.plans.order(job.id)
        assert order is not None, "without one nothing is decided"
        values = self.secrets(job, order.held, going.by_hand)
        if missing := sorted(set(order.held) - values.keys()):
            raise CannotGoOn(
                f"{job.id} needs {', '.join(missing)}, and the keeper that had it is gone",
                hint=f"colabdev run --continue {job.id} asks for it, or takes it from the environment",
            )
        token = self.steps.token(order)  # Before anything is spent, for it may be refused.
        try:
            making = self._on_a_machine(job, order, progress, by_hand=going.by_hand)
        except ColabdevError:
            with suppress(ColabdevError):  # It is tried again by a keeper, also when it was typed.
                self._hold(job, values)
            raise
        self._hold(job, values)  # Whoever held them until now ended with the machine before.
        self.steps.let_in(making, token)
        if not has_done(making.going_on, CHOSEN):
            self.steps.sync_project(making, progress)
            making = self._choose(making, going, progress)
        if not has_done(making.going_on, CLAIMED):
            making = self._claim(making)
            crash_point("recovery.claimed")
        making = self._recorded(making)
        self.steps.start(making, values, progress)
        crash_point("recovery.started")
        making = self._done(making, record_start(making.going_on))
        if self._load(job.id).continues is None:
            self.steps.stop(making)  # Somebody stopped it while it was being started.
        return self._load(job.id)

    def _hold(self, job: JobRecord, values: Mapping[str, str]) -> None:
        if values:
            self.hold(job, values)

    def _on_a_machine(
        self, job: JobRecord, order: JobOrder, progress: Progress, *, by_hand: bool
    ) -> Making:
        going_on = self.plans.continuation(job.id)
        before = self.runtimes.load(job.runtime)
        if before is not None and before.phase is Phase.LOST:
            going_on = replace(going_on, replaces=before.request_id)
        wish, going_on = self._within_budget(job, order.machine, going_on)
        self.plans.save_continuation(job.id, going_on)
        machine = self.steps.bring_up(job, order, wish, progress, by_hand=by_hand)
        crash_point("recovery.machine")
        job = self._load(job.id)
        self._check_wanted(job, machine)
        if not is_in_the_making(job, going_on, machine):
            token = secrets.token_hex(16)
            going_on = begin_attempt(job, going_on, machine.request_id, token)
            self.plans.save_continuation(job.id, going_on)
        return Making(job, order, machine, going_on)

    def _within_budget(
        self, job: JobRecord, wish: MachineWish, going_on: Continuation
    ) -> tuple[MachineWish, Continuation]:
        """The machine to ask for; CannotGoOn when what was agreed to is used up."""
        if wish.provider not in RENTED:
            return wish, going_on
        balance = self.balance(wish.provider)
        if going_on.balance is None:
            going_on = replace(going_on, balance=balance)
        left = units_left(job.continues, going_on, balance)
        if left is not None and left <= 0:
            raise CannotGoOn(
                f"the units are used up that {job.id} may cost on new machines",
                hint=f"colabdev run --continue {job.id}",
            )
        return wish_within(wish, left), going_on

    def _choose(self, making: Making, going: Going, progress: Progress) -> Making:
        job = making.job
        found = self.steps.restore(
            making, self.plans.safe(job.id), progress, accept_rollback=going.accept_rollback
        )
        began_from, path = None, ""
        if found is not None:
            began_from, path = Resumed(found.checkpoint.attempt, found.checkpoint.step), found.path
        if not going.by_hand and not makes_progress(making.going_on, began_from):
            raise CannotGoOn(no_progress(making.going_on), hint=f"colabdev logs {job.id}")
        said = "anew, for nothing was safe" if found is None else f"from {found.checkpoint.name}"
        progress(f"{job.id} goes on {said}")
        chosen = replace(making.going_on, step=CHOSEN, began_from=began_from, path=path)
        making = self._done(making, chosen)
        crash_point("recovery.chosen")
        return making

    def _claim(self, making: Making) -> Making:
        for _ in range(MOST_VOID):
            if self.steps.claim(making):
                return self._done(making, replace(making.going_on, step=CLAIMED))
            token = secrets.token_hex(16)
            making = self._done(making, skip_number(making.going_on, token))
        raise ColabdevError(
            f"cannot begin an attempt of {making.job.id}: others claim each number, and begin none",
            hint=f"colabdev run --continue {making.job.id} tries again",
        )

    def _recorded(self, making: Making) -> Making:
        """Counted, and then named by the job's record: only then it may start."""
        job = self._load(making.job.id)
        self._check_wanted(job, making.machine)
        making = self._done(making, record_try(making.going_on, datetime.now(UTC)))
        crash_point("recovery.counted")
        here = self.jobs.log_size(job.id, job.attempt)
        recorded = self.jobs.update(
            job.id, lambda known: record_attempt(known, making.going_on, here)
        )
        if recorded is None:
            raise _Unwanted
        crash_point("recovery.recorded")
        return replace(making, job=recorded)

    def _done(self, making: Making, going_on: Continuation) -> Making:
        self.plans.save_continuation(making.job.id, going_on)
        return replace(making, going_on=going_on)

    def _check_wanted(self, job: JobRecord, machine: RuntimeRecord) -> None:
        """Anybody may have stopped the job meanwhile, or given the machine back; and what it left on
        Drive may tell that it had ended."""
        record = self.runtimes.load(machine.name)
        if record is None or record.request_id != machine.request_id or not is_candidate(job):
            raise _Unwanted
        if record.phase is Phase.RELEASING:
            raise _Unwanted

    def _note_failure(self, job_id: str, error: ColabdevError, progress: Progress) -> None:
        now, going_on = datetime.now(UTC), self.plans.continuation(job_id)
        if isinstance(error, CannotGoOn):
            self._give_up(job_id, going_on, _said_of(error), progress)
            return
        is_there = self._is_there(job_id)
        going_on = _counted(going_on, error, now, is_there=is_there)
        if is_there and _is_enough(going_on, now):
            again = f"its new machine was given back; next: colabdev run --continue {job_id}"
            self._give_up(job_id, going_on, f"{_sentence(error)}; {again}", progress)
            return
        self.plans.save_continuation(job_id, put_off(going_on, _said_meanwhile(error), now))

    def _give_up(self, job_id: str, going_on: Continuation, why: str, progress: Progress) -> None:
        self.plans.save_continuation(job_id, give_up(going_on, why))
        self._let_go(job_id, progress)

    def _is_there(self, job_id: str) -> bool | None:
        """Whether a machine that was asked for to go on with the job costs something now; None when its
        provider does not say."""
        begun = self._begun(job_id)
        if begun is None:
            return False
        try:
            return self.provider(begun.provider).find(begun.name) is not None
        except ColabdevError:
            return None

    def _begun(self, job_id: str) -> RuntimeRecord | None:
        """The machine that was asked for to go on with the job, and is not of use yet."""
        job, replaces = self._load(job_id), self.plans.continuation(job_id).replaces
        record = self.runtimes.load(job.runtime)
        if record is None or replaces in ("", record.request_id):
            return None
        return record if record.phase in (Phase.STARTING, Phase.UP) else None

    def _let_go(self, job_id: str, progress: Progress) -> None:
        """Give back what was started for nothing, unless others have use for it."""
        begun = self._begun(job_id)
        if begun is None or self._is_there(job_id) is False:
            return
        others = (job for job in readable_jobs(self.jobs) if job.id != job_id)
        if not any(_may_use(job, begun) for job in others):
            self.give_back(begun, progress)


def _counted(
    going_on: Continuation, error: ColabdevError, now: datetime, *, is_there: bool | None
) -> Continuation:
    """With that failure, if it leaves a machine that costs. Without a network nothing is counted."""
    if is_there is None:
        return going_on
    if not is_there:
        return replace(going_on, failures_there=0, user_awaited=None)
    if isinstance(error, DriveNotAllowed):
        return replace(going_on, user_awaited=going_on.user_awaited or now)
    return replace(going_on, failures_there=going_on.failures_there + 1, user_awaited=None)


def _is_enough(going_on: Continuation, now: datetime) -> bool:
    """Whether the machine that is there is to be given back."""
    if going_on.user_awaited is not None:
        return now - going_on.user_awaited >= USER_PATIENCE
    return going_on.failures_there >= MOST_FAILURES


def _said_of(error: ColabdevError) -> str:
    """In a line, for whoever looks later: nobody may have read the error itself."""
    said = _sentence(error)
    return f"{said}; next: {error.hint}" if error.hint else said


def _said_meanwhile(error: ColabdevError) -> str:
    """The same while it is tried again and again: nobody needs to type anything for that."""
    before, _, _ = error.hint.partition("type the command again")
    return _said_of(ColabdevError(error.message, hint=before.removesuffix("then ").rstrip(" ,;")))


def _sentence(error: ColabdevError) -> str:
    return error.message.partition("\n")[0].rstrip(".")


def _may_use(job: JobRecord, machine: RuntimeRecord) -> bool:
    """Whether the job runs on that machine, or may be brought there."""
    is_its = job.request_id == machine.request_id or is_candidate(job)
    return job.runtime == machine.name and is_its and not job.state.is_end
