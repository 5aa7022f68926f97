"""The jobs that this computer knows."""

from __future__ import annotations

from collections.abc import Iterator

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
