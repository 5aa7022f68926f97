"""The part of the command line's composition root that has to do with jobs that go on elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from colabdev.cli import output

if TYPE_CHECKING:
    from colabdev.adapters.recovery_store import FileRecoveryStore
    from colabdev.cli.standing import OwnProject
    from colabdev.cli.wiring import Wiring
    from colabdev.models import JobRecord, RuntimeRecord
    from colabdev.ports import Progress
    from colabdev.services.hand_overs import HandOvers
    from colabdev.services.job_attempts import JobAttempts
    from colabdev.services.recovery import Recovery
    from colabdev.services.recovery_cases import RecoveryCases
    from colabdev.services.recovery_steps import RecoverySteps
    from colabdev.services.taking_over import Surroundings, TakingOver


class RecoveryWiring:
    """Builds what goes on with jobs."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def plans(self) -> FileRecoveryStore:
        from colabdev.adapters.recovery_store import FileRecoveryStore

        return FileRecoveryStore(self._wiring.places().state_dir)

    def cases(self) -> RecoveryCases:
        from colabdev.services.recovery_cases import RecoveryCases

        wiring = self._wiring
        return RecoveryCases(runtimes=wiring.store(), jobs=wiring.job_store(), plans=self.plans())

    def hand_overs(self) -> HandOvers:
        from colabdev.services.hand_overs import HandOvers

        wiring = self._wiring
        return HandOvers(
            runtimes=wiring.store(),
            jobs=wiring.job_store(),
            keepers=wiring.keepers(),
            cases=self.cases(),
            told=wiring.job_store(),
        )

    def attempts(self) -> JobAttempts:
        from colabdev.services.job_attempts import JobAttempts

        wiring = self._wiring
        return JobAttempts(
            logs=wiring.job_logs(), jobs=wiring.job_store(), hand_overs=self.hand_overs()
        )

    def service(self) -> Recovery:
        from colabdev.services.recovery import Recovery

        wiring = self._wiring
        return Recovery(
            runtimes=wiring.store(),
            jobs=wiring.job_store(),
            plans=self.plans(),
            cases=self.cases(),
            provider=wiring.provider,
            steps=self._steps(),
            secrets=self._secrets,
            hold=self._hold,
            balance=self._balance,
            give_back=self._give_back,
        )

    def taking_over(self) -> TakingOver:
        from colabdev.services.taking_over import TakingOver

        wiring = self._wiring
        return TakingOver(
            runtimes=wiring.store(),
            jobs=wiring.job_store(),
            plans=self.plans(),
            keepers=wiring.keepers(),
            store=wiring.checkpoints().store(),
        )

    def surroundings(
        self, project: OwnProject, variables: Mapping[str, str], held: tuple[str, ...]
    ) -> Surroundings:
        """What this computer, standing in that project, adds to a job that it takes over."""
        from colabdev.services.taking_over import Surroundings

        settings = project.settings
        return Surroundings(
            project_path=str(project.path),
            project_name=project.name,
            variables=variables,
            held=held,
            resume=settings.checkpoints.resume if settings else None,
            gpu=settings.runtime.gpu if settings else (),
        )

    def _steps(self) -> RecoverySteps:
        from colabdev.services.recovery_steps import RecoverySteps

        wiring = self._wiring
        return RecoverySteps(
            runtimes=wiring.runtimes(),
            keepers=wiring.keepers(),
            logs=wiring.job_logs(),
            plans=self.plans(),
            restorer=wiring.checkpoints().restorer(),
            computer_id=wiring.store().computer_id,
            sync=self._sync,
            tokens=wiring.colab().login,
        )

    def _sync(self, runtime: RuntimeRecord, path: str, progress: Progress) -> None:
        from colabdev.services.exchange import SyncOptions

        files = self._wiring.sync()
        project = files.opener().open(Path(path))
        files.syncer().sync_project(runtime, project, SyncOptions(outputs=False), progress)

    def _secrets(self, job: JobRecord, names: Sequence[str], by_hand: bool) -> Mapping[str, str]:
        """From whoever holds them; else, of somebody who types, as `--secret` has them."""
        keeper = None
        record = self._wiring.store().load(job.runtime)
        if names and record is not None:
            keeper = self._wiring.keepers().find(record)
        held = dict((keeper.held(job.id) if keeper is not None else None) or {})
        missing = [name for name in names if name not in held]
        if missing and by_hand:
            held |= self._wiring.starts().secret_sources().known(missing)
        return held

    def _hold(self, job: JobRecord, variables: Mapping[str, str]) -> None:
        self._wiring.keepers().ensure(job.runtime).hold(job.id, variables)

    def _balance(self, provider: str) -> float | None:
        overview = self._wiring.colab().overview() if provider == "colab" else None
        return overview.account.balance if overview is not None else None

    def _give_back(self, runtime: RuntimeRecord, progress: Progress) -> None:
        """As `down`, but its jobs are to be continued by hand still."""
        wiring = self._wiring
        releases = wiring.releases()
        bring_home = partial(wiring.drive().homecoming(ends_jobs=False).bring, force=False)
        for release in releases.down(
            [runtime.name], progress, bring_home, request_id=runtime.request_id
        ):
            if release.error is not None:
                output.progress(f"{runtime.name} stays up: {release.error.message}")
