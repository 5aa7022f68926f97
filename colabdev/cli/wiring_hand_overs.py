"""The part of the command line's composition root that follows jobs from machine to machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from colabdev.ports import JobStore, Keepers, RuntimeStore
    from colabdev.services.hand_overs import HandOvers
    from colabdev.services.job_attempts import JobAttempts
    from colabdev.services.job_logs import JobLogs


class HandOverWiring:
    """Builds it for the jobs below that state directory."""

    def __init__(self, state_dir: Path, runtimes: RuntimeStore, keepers: Keepers) -> None:
        self._state_dir = state_dir
        self._runtimes = runtimes
        self._keepers = keepers

    def service(self) -> HandOvers:
        from colabdev.adapters.job_store import FileJobStore
        from colabdev.adapters.recovery_store import FileRecoveryStore
        from colabdev.services.hand_overs import HandOvers
        from colabdev.services.recovery_cases import RecoveryCases

        jobs = FileJobStore(self._state_dir)
        return HandOvers(
            runtimes=self._runtimes,
            jobs=jobs,
            keepers=self._keepers,
            cases=RecoveryCases(
                runtimes=self._runtimes, jobs=jobs, plans=FileRecoveryStore(self._state_dir)
            ),
            told=jobs,
        )

    def attempts(self, logs: JobLogs, jobs: JobStore) -> JobAttempts:
        from colabdev.services.job_attempts import JobAttempts

        return JobAttempts(logs=logs, jobs=jobs, hand_overs=self.service())
