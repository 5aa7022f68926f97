"""What is kept here of jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from colabdev.models import Begin, JobRecord


class JobStore(Protocol):
    """This computer's copies of jobs: what is known of each, and its log as far as it came here."""

    def ids(self) -> Sequence[str]:
        """The jobs that have a record, readable or not, sorted."""

    def version(self) -> object:
        """Another one after a job was written down or forgotten, or was given another attempt."""

    def load(self, job_id: str) -> JobRecord | None:
        """The record, None when there is none; `StateUnreadable` when there is and it makes no sense."""

    def create(self, job: JobRecord) -> bool:
        """Write the record of a new job; False when the id is taken."""

    def save(self, job: JobRecord) -> None:
        """Write the record, atomically and durably."""

    def update(self, job_id: str, change: Callable[[JobRecord], JobRecord]) -> JobRecord | None:
        """Read, change and write under the record's lock; None when there is no record."""

    def delete(self, job_id: str) -> None:
        """Forget the job and its log. Harmless when it is forgotten already."""

    def append(self, job_id: str, attempt: int, offset: int, data: bytes) -> None:
        """Add what the log has from `offset` on. What is there already is not added again, and
        nothing is added behind a gap: the copy is a prefix of the log, whoever else writes it."""

    def log_size(self, job_id: str, attempt: int) -> int:
        """How much of the log is here; so also where to go on."""

    def read_log(self, job_id: str, attempt: int, offset: int) -> bytes:
        """The next piece of the copy from `offset` on; b"" at its end."""

    def begin_of(self, job_id: str, attempt: int, begin: Begin) -> int:
        """Where in the copy that is; without its records `since_s` means all of it."""

    def save_records(self, job_id: str, texts: Mapping[str, str]) -> None:
        """Keep what came home of the job beside its log; of other names than `RECORDS` nothing."""

    def has_records(self, job_id: str) -> bool:
        """Whether they are here; they come when the job has ended."""

    def record_lines(self, job_id: str, name: str) -> Sequence[str]:
        """The lines of one of them, none when it is not here."""
