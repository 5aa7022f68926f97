"""What going on with jobs on other machines needs from the outside world."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from colabdev.models.orders import JobOrder
from colabdev.models.recovery import Continuation, Resumed


class RecoveryStore(Protocol):
    """What is kept beside a job's record so that it can go on elsewhere. `StateUnreadable` when what is
    there makes no sense, `StateNotWritable` when it cannot be written."""

    def order(self, job_id: str) -> JobOrder | None:
        """What the job is started by; None: it does not go on."""

    def save_order(self, job_id: str, order: JobOrder) -> None:
        """Keep it, readable by nobody else."""

    def has_order(self, job_id: str) -> bool:
        """Whether there is one, readable or not; cheap."""

    def continuation(self, job_id: str) -> Continuation:
        """How going on with it stands; one that says nothing before the first time."""

    def save_continuation(self, job_id: str, continuation: Continuation) -> None:
        """Write it, atomically and durably."""

    def safe(self, job_id: str) -> Resumed | None:
        """The newest safe checkpoint that the job's runtimes told of."""

    def note_safe(self, job_id: str, newest: Resumed) -> None:
        """Remember it, unless a newer one is known."""

    def code_tree(self, job_id: str) -> str | None:
        """The tree of the job's frozen code, if that is here."""

    def receive_code(self, job_id: str, pieces: Iterable[bytes]) -> None:
        """Take it, whole or not at all: what `pieces` raises goes through."""

    def read_code(self, job_id: str) -> Iterator[bytes]:
        """The archive of it, in pieces."""

    def at_work(self, job_id: str) -> AbstractContextManager[None]:
        """Held by whoever goes on with the job; others wait."""
