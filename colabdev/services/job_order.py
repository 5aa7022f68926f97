"""Jobs that wait for others on their runtime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from colabdev.errors import ColabdevError
from colabdev.models import JobRecord, JobState, RuntimeRecord


@dataclass(frozen=True, slots=True)
class After:
    """A job that another one comes after."""

    job: JobRecord
    ok: bool
    """It must have succeeded."""


def still_to_come(after: Iterable[After], runtime: RuntimeRecord) -> Sequence[After]:
    """Those that a job on this runtime has to wait for; ColabdevError when it would wait in vain."""
    return [one for one in after if _is_to_come(one, runtime)]


def _is_to_come(one: After, runtime: RuntimeRecord) -> bool:
    job = one.job
    if job.state.is_end:
        if one.ok and job.state is not JobState.SUCCEEDED:
            raise ColabdevError(
                f"cannot start it after {job.id}: that did not succeed, it is {job.state.value}",
                hint=f"--after {job.id} starts it all the same; colabdev logs {job.id}",
            )
        return False
    if (job.runtime, job.request_id) != (runtime.name, runtime.request_id):
        raise ColabdevError(
            f"cannot start it on {runtime.name!r} after {job.id}: that runs on {job.runtime!r}, and "
            "jobs only wait for those on their own runtime",
            hint=f"-r {job.runtime} starts it there",
        )
    return True
