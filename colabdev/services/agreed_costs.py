"""What jobs may cost on new machines by what was agreed to, beside what they have cost."""

from __future__ import annotations

from colabdev.core.recovery import units_left
from colabdev.models import JobRecord
from colabdev.ports import JobStore
from colabdev.ports.recovery import RecoveryStore
from colabdev.services.known_jobs import readable_jobs


def find_overspent(
    jobs: JobStore, plans: RecoveryStore, runtime: str, balance: float
) -> JobRecord | None:
    """The job for which a new machine of that name costs more than was agreed to; None while it does
    not, and while another job has use for it. `balance` is the account's now."""

    def is_spent(job: JobRecord) -> bool:
        left = units_left(job.continues, plans.continuation(job.id), balance) if job.past else None
        return left is not None and left <= 0

    running = [
        job for job in readable_jobs(jobs) if job.runtime == runtime and not job.state.is_end
    ]
    return running[0] if running and all(map(is_spent, running)) else None
