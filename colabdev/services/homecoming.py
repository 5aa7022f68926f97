"""What comes to this computer, or to Drive, before a runtime is given back."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from colabdev.errors import ColabdevError, GuardHalted, NotSafeToRelease
from colabdev.models import Phase, ProjectLink, RuntimeRecord
from colabdev.ports import Keepers, Progress, SyncedProject
from colabdev.services.checkpoint_safety import CheckpointSafety
from colabdev.services.exchange import SyncOptions
from colabdev.services.job_logs import JobLogs
from colabdev.services.safekeeping import READY_TIMEOUT_S, Safekeeping
from colabdev.services.sync import Syncer


class Flush(Protocol):
    """Has the runtime's mount of Drive take what waits there. Raises `NotSafeToRelease` when it does not
    take it, unless `force`."""

    def __call__(self, runtime: RuntimeRecord, progress: Progress, *, force: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Homecoming:
    """Brings home edits, jobs and their logs, sees that checkpoints are safe, and has Drive handed the
    rest."""

    keepers: Keepers
    syncer: Syncer
    open_project: Callable[[str], SyncedProject]
    safekeeping: Safekeeping
    logs: JobLogs
    checkpoints: CheckpointSafety
    flush: Flush
    end_jobs: Callable[[str], None]
    """Lets no job of machines of that name go on elsewhere."""

    def bring(
        self, runtime: RuntimeRecord, progress: Progress, *, force: bool = False
    ) -> Sequence[str]:
        """All that must happen before the runtime is released; returns the jobs that may run on.

        Raises `NotSafeToRelease` when edits or checkpoints would be lost, unless `force`. What cannot
        be asked is said, and no reason to keep paying.
        """
        # First of all, for it may refuse, and must not have stopped any job then; and again for what
        # the jobs wrote until their end.
        could_ask = self._secure(runtime, progress, force=force)
        saving = self.checkpoints.secure(runtime, progress, force=force) if could_ask else ()
        if self.logs.bring_home(runtime, progress, saving) and could_ask:
            self._secure(runtime, progress, force=force)
            self.checkpoints.secure(runtime, progress, force=force)
        self.flush(runtime, progress, force=force)
        self.end_jobs(runtime.name)  # Else somebody would start the next machine for them.
        return self.logs.unended(runtime)

    def _secure(self, runtime: RuntimeRecord, progress: Progress, *, force: bool) -> bool:
        """Whether the runtime could be asked."""
        if _has_edits_to_lose(runtime):
            try:
                self.keepers.ensure(runtime.name).wait_ready(READY_TIMEOUT_S)
            except ColabdevError as exc:
                progress(f"cannot ask {runtime.name} for what was edited there: {exc.message}")
                return False
            for link in runtime.projects:
                self._bring_edits(runtime, link, progress, force=force)
        self.safekeeping.hand_over(runtime, progress, force=force)
        return True

    def _bring_edits(
        self, runtime: RuntimeRecord, link: ProjectLink, progress: Progress, *, force: bool
    ) -> None:
        if not os.path.isdir(link.path):
            progress(f"{link.path} is not here; edits in {link.workdir} do not come home")
            return
        try:
            project = self.open_project(link.path)
            report = self.syncer.sync_project(runtime, project, SyncOptions(send=False), progress)
        except GuardHalted as exc:
            _refuse(runtime, f"{exc.message}, in {link.path}", link, progress, force=force)
        except ColabdevError as exc:
            # Whether all of it is somewhere else all the same is for Drive to say.
            progress(f"cannot bring edits from {link.workdir} home: {exc.message}")
        else:
            if report.conflicts:
                named = ", ".join(conflict.path for conflict in report.conflicts[:3])
                sentence = f"{len(report.conflicts)} of {link.path} changed on both sides ({named})"
                _refuse(runtime, sentence, link, progress, force=force)


def _has_edits_to_lose(runtime: RuntimeRecord) -> bool:
    """A host of the user's own keeps its files."""
    machine = runtime.machine
    return machine is not None and runtime.phase is not Phase.LOST and machine.ssh.login is None


def _refuse(
    runtime: RuntimeRecord, what: str, link: ProjectLink, progress: Progress, *, force: bool
) -> None:
    if force:
        progress(f"giving up what is in {link.workdir}: {what}")
        return
    raise NotSafeToRelease(
        f"cannot release {runtime.name!r}: {what}",
        hint=f"in {link.path}: colabdev sync, with --prefer local or remote where both changed; "
        f"colabdev down {runtime.name} --force gives up the runtime's",
    )
