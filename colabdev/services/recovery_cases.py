"""What is known here of jobs that may go on elsewhere. It asks nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from colabdev.core.job_records import is_machine_gone
from colabdev.core.recovery import Case, Decision, decide, is_candidate
from colabdev.models import JobRecord, JobState
from colabdev.ports import JobStore, RuntimeStore
from colabdev.ports.recovery import RecoveryStore
from colabdev.services.known_jobs import readable_jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCases:
    """Reads state files alone. `StateUnreadable` when one makes no sense."""

    runtimes: RuntimeStore
    jobs: JobStore
    plans: RecoveryStore

    def of(self, job: JobRecord, *, by_hand: bool = False) -> Case:
        """The job as it stands now."""
        return Case(
            job=job,
            runtime=self.runtimes.load(job.runtime),
            going_on=self.plans.continuation(job.id),
            has_order=self.plans.has_order(job.id),
            now=datetime.now(UTC),
            by_hand=by_hand,
        )

    def decisions(self, runtime: str) -> Iterator[tuple[JobRecord, Decision]]:
        """What to do about each job of that name's machines which may go on at all."""
        for job in readable_jobs(self.jobs):
            if job.runtime == runtime and is_candidate(job):
                yield job, decide(self.of(job))


def end_consent(jobs: JobStore, runtimes: RuntimeStore, job: JobRecord) -> JobRecord:
    """Nothing goes on with the job any more by itself. One that waits for another machine is stopped."""
    runtime = runtimes.load(job.runtime)

    def ended(known: JobRecord) -> JobRecord:
        is_waiting = is_candidate(known) and is_machine_gone(known, runtime)
        state = JobState.STOPPED if is_waiting else known.state
        return replace(known, continues=None, state=state)

    return jobs.update(job.id, ended) or job


def end_consents(jobs: JobStore, runtimes: RuntimeStore, runtime: str) -> None:
    """The same for all jobs of machines of that name. Records that cannot be read stay as they are:
    nothing goes on with those either."""
    for job in readable_jobs(jobs):
        if job.runtime == runtime and is_candidate(job):
            end_consent(jobs, runtimes, job)
