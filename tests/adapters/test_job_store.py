"""What is kept of jobs here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from colabdev.adapters.job_store import FileJobStore
from colabdev.models import JobRecord
from tests.support.records import MOMENT

JOB = JobRecord("a-261120-aaaa", "a", "box", "request-1", ("a.py",), MOMENT)


class Watched(FileJobStore):
    """Looked at just before the record is there."""

    seen: object = None

    def save(self, job: JobRecord) -> None:
        self.seen = self.version()
        super().save(job)


def test_whoever_looks_while_a_job_is_written_down_looks_again(tmp_path: Path) -> None:
    jobs = Watched(tmp_path)
    assert jobs.create(JOB)
    assert jobs.version() != jobs.seen
    before = jobs.version()
    jobs.update(JOB.id, lambda known: replace(known, log_bytes=7))
    assert jobs.version() == before
    jobs.update(JOB.id, lambda known: replace(known, attempt=2))
    assert jobs.version() != before
