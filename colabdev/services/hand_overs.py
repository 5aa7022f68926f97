"""Jobs between two machines: how they stand, what is said of them, and waiting for what comes next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from colabdev.core.hand_overs import (
    Fate,
    describe_hand_over,
    describe_loss,
    describe_start,
    fate_of,
    goes_on,
    has_begun,
    news_of,
)
from colabdev.core.job_records import is_machine_gone
from colabdev.core.recovery import Decision, Verdict, decide, is_candidate, starts_left
from colabdev.errors import ColabdevError, RuntimeLost, StateUnreadable
from colabdev.models import JobRecord, JobState, RuntimeRecord
from colabdev.ports import JobStore, Keepers, Progress, RuntimeStore
from colabdev.ports.told import ToldStore
from colabdev.services.known_jobs import readable_jobs
from colabdev.services.recovery_cases import RecoveryCases

LOOK_S = 0.5
NUDGE_S = 10.0
"""So often a keeper is looked for that goes on with the job."""


class HandOvers:
    """Jobs that may continue, as seen by whoever types a command; a keeper is what continues them."""

    def __init__(
        self,
        *,
        runtimes: RuntimeStore,
        jobs: JobStore,
        keepers: Keepers,
        cases: RecoveryCases,
        told: ToldStore,
    ) -> None:
        self._runtimes = runtimes
        self._jobs = jobs
        self._keepers = keepers
        self._cases = cases
        self._told = told

    def is_gone(self, job: JobRecord) -> bool:
        """Whether the machine is known to be gone that the job ran on."""
        return is_machine_gone(job, self._runtimes.load(job.runtime))

    def is_between(self, job: JobRecord) -> bool:
        """Whether the job has lost its machine and is being brought to the next one, now or later."""
        with suppress(StateUnreadable):  # Nothing goes on by what nobody can read.
            return is_candidate(job) and goes_on(decide(self._cases.of(job)))
        return False

    def fates(self, runtime: RuntimeRecord) -> Sequence[Fate]:
        """What becomes of the jobs that were on that machine when it died, or are brought to it."""
        found = []
        for job in readable_jobs(self._jobs):
            if job.runtime != runtime.name:
                continue
            with suppress(StateUnreadable):
                fate = fate_of(self._cases.of(job))
                # Who ran on a machine before that one was told of then.
                if fate and (fate.goes_on or job.request_id == runtime.request_id):
                    found.append(fate)
        return found

    def to_go_on(self, runtime: str) -> Sequence[str]:
        """The jobs there that will go on elsewhere should its machine die."""
        known = readable_jobs(self._jobs)
        return [job.id for job in known if job.runtime == runtime and self.left(job.id)]

    def left(self, job_id: str) -> int:
        """How often the job may still go on by itself, as far as is known here."""
        with suppress(StateUnreadable):
            job = self._jobs.load(job_id)
            return 0 if job is None else starts_left(self._cases.of(job))
        return 0

    def has_begun(self, job: JobRecord) -> bool:
        """Whether the attempt that the record names was started, as far as is known here."""
        with suppress(StateUnreadable):
            return not is_candidate(job) or has_begun(self._cases.of(job))
        return True

    def wait_for_next(self, job_id: str, attempt: int, progress: Progress) -> JobRecord:
        """The job once the attempt after that one was started, or once it has ended after all.
        RuntimeLost, saying why, when it does not go on."""
        said, nudged = "", float("-inf")
        while True:
            known = self._jobs.load(job_id)
            if known is None:
                raise RuntimeLost(f"{job_id} is lost: it is forgotten here", hint="colabdev ps")
            case = self._cases.of(known)
            has_ended = known.state.is_end and known.state is not JobState.LOST
            if has_ended or (known.attempt > attempt and has_begun(case)):
                started = describe_start(known.attempt, known.resumed)
                if known.attempt > attempt and started != said:
                    progress(started)  # It went too fast to be seen.
                self.note(known)
                return known
            decision = decide(case)
            if goes_on(decision):
                now = describe_hand_over(case, decision)
                if now != said:
                    progress(said := now)
                if time.monotonic() - nudged > NUDGE_S:
                    nudged = time.monotonic()
                    self._nudge(known)
            elif decision.verdict is Verdict.NEVER or is_machine_gone(known, case.runtime):
                self.note(known)
                raise RuntimeLost(describe_loss(known, decision), hint=_next_of(known, decision))
            time.sleep(LOOK_S)

    def tell(self, progress: Progress) -> None:
        """Say once what happened to the machines of jobs since somebody last looked, and see to it that
        what is to go on does. Whatever keeps us from it keeps nobody from what they typed."""
        for job_id in self._jobs.ids():
            with suppress(ColabdevError):
                # Few have an order, and all others need not be read: everybody waits for this.
                job = self._jobs.load(job_id) if self._cases.plans.has_order(job_id) else None
                if job is not None:
                    self._tell(job, progress)

    def note(self, job: JobRecord) -> None:
        """Somebody has seen how it stands: it need not be told again."""
        with suppress(ColabdevError):
            key, _ = self._news(job)
            if key != self._told.told(job.id):
                self._told.save_told(job.id, key)

    def _tell(self, job: JobRecord, progress: Progress) -> None:
        key, sentence = self._news(job)
        if key and key != self._told.told(job.id):
            progress(sentence)
            self._told.save_told(job.id, key)
        if self.is_between(job):
            self._nudge(job)

    def _news(self, job: JobRecord) -> tuple[str, str]:
        before = job.past[-1].attempt if job.past else job.attempt
        return news_of(self._cases.of(job), self._told.heard(job.id, before))

    def _nudge(self, job: JobRecord) -> None:
        """A keeper that was killed goes on once it is started again."""
        with suppress(ColabdevError):
            self._keepers.ensure(job.runtime)


def _next_of(job: JobRecord, decision: Decision) -> str:
    """What to type about a job that does not go on by itself."""
    log = f"colabdev logs {job.id} prints what came home of its log"
    by_hand = f"colabdev run --continue {job.id} goes on with it; "
    return by_hand + log if decision.verdict is Verdict.NEVER else log
