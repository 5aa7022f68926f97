"""The secrets of jobs that may continue on another machine: in the keeper's memory and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping


class HeldSecrets:
    """Variables by the jobs that they are of. Threads may share it."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._by_job: dict[str, Mapping[str, str]] = {}

    def __repr__(self) -> str:
        return f"<HeldSecrets of {len(self._by_job)} jobs>"

    def hold(self, job_id: str, variables: Mapping[str, str]) -> None:
        """Keep them until `let_go`, or the keeper's end."""
        with self._changing:
            self._by_job[job_id] = dict(variables)

    def held(self, job_id: str) -> Mapping[str, str] | None:
        """What is kept for the job; None when nothing is."""
        with self._changing:
            return self._by_job.get(job_id)

    def let_go(self, is_over: Callable[[str], bool]) -> None:
        """Forget those of the jobs that will not continue any more."""
        with self._changing:
            jobs = list(self._by_job)
        over = [job_id for job_id in jobs if is_over(job_id)]
        with self._changing:
            for job_id in over:
                self._by_job.pop(job_id, None)
