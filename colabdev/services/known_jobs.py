"""The jobs that this computer knows."""

from __future__ import annotations

from collections.abc import Iterator

from colabdev.core.job_records import with_standing
from colabdev.errors import StateUnreadable
from colabdev.models import JobRecord
from colabdev.ports import JobStore


def readable_jobs(jobs: JobStore) -> Iterator[JobRecord]:
    """All whose record can be read; `ps` names the others, which must not be in anybody's way."""
    for job_id in jobs.ids():
        try:
            job = jobs.load(job_id)
        except StateUnreadable:
            continue
        if job is not None:
            yield job


def write_standing(jobs: JobStore, told: JobRecord) -> None:
    """Write down how the job stands by its runtime's word. What others decided of it meanwhile stays,
    and a word about an attempt that is over changes nothing."""
    jobs.update(told.id, lambda known: with_standing(known, told))
