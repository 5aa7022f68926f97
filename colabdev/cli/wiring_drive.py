"""The part of the command line's composition root that has to do with what Drive keeps of a runtime,
and with what comes home before it goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.models import RuntimeRecord
    from colabdev.ports import Progress
    from colabdev.services.archives import Archives
    from colabdev.services.datasets import DataSets
    from colabdev.services.homecoming import Homecoming
    from colabdev.services.safekeeping import Safekeeping


class DriveWiring:
    """Builds what stores, lists and brings home."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def homecoming(self, *, ends_jobs: bool = True) -> Homecoming:
        """`ends_jobs`: none of the runtime's jobs goes on elsewhere after that."""
        from colabdev.services.homecoming import Homecoming
        from colabdev.services.recovery_cases import end_consents

        jobs, store = self._wiring.job_store(), self._wiring.store()

        opener = self._wiring.sync().opener()
        return Homecoming(
            keepers=self._wiring.keepers(),
            syncer=self._wiring.sync().syncer(),
            open_project=lambda path: opener.open(Path(path)),
            safekeeping=self.safekeeping(),
            logs=self._wiring.job_logs(),
            checkpoints=self._wiring.checkpoints().safety(),
            flush=self._flush_mount,
            end_jobs=lambda name: end_consents(jobs, store, name) if ends_jobs else None,
        )

    def _flush_mount(self, runtime: RuntimeRecord, progress: Progress, *, force: bool) -> None:
        if runtime.provider == "colab":
            self._wiring.colab().provider().flush(runtime.name, progress, force=force)
        if runtime.provider == "notebook":
            self._wiring.notebooks().provider().flush(runtime.name, progress, force=force)

    def safekeeping(self) -> Safekeeping:
        from colabdev.services.safekeeping import Safekeeping

        return Safekeeping(self._wiring.keepers())

    def archives(self) -> Archives:
        from colabdev.adapters.restoring import open_restore_target
        from colabdev.services.archives import Archives

        return Archives(self._wiring.keepers(), open_restore_target)

    def data_sets(self, *, force: bool = False) -> DataSets:
        """`force`: also much through what counts it."""
        from colabdev.adapters.packing import open_data_folder
        from colabdev.services.datasets import DataSets

        if force:
            return DataSets(self._wiring.keepers(), open_data_folder)
        return DataSets(self._wiring.keepers(), open_data_folder, self._wiring.sync().check_amount)
