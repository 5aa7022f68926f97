"""The part of the command line's composition root that has to do with syncing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from colabdev.cli import output, standing
from colabdev.core.sizes import DEFAULT_MAX_SIZE, parse_size
from colabdev.errors import UsageError

if TYPE_CHECKING:
    from colabdev.adapters.opening import Opener
    from colabdev.agent.rules import Rule
    from colabdev.cli.wiring import Wiring
    from colabdev.core.reconcile import Mode
    from colabdev.models import RuntimeRecord, SyncedSettings
    from colabdev.ports import Meter, SyncedProject
    from colabdev.services.exchange import SyncOptions
    from colabdev.services.sync import ProjectCode, Syncer
    from colabdev.services.watch import Watch


class SyncWiring:
    """Builds what brings a project and a runtime in step."""

    def __init__(self, wiring: Wiring, meter: Meter | None) -> None:
        self._wiring = wiring
        self._meter = meter or output.Meter()

    def code(self) -> ProjectCode:
        from colabdev.services.sync import ProjectCode

        return ProjectCode(self.syncer(), self.project)

    def syncer(self) -> Syncer:
        from colabdev.services.sync import Syncer

        store = self._wiring.store()
        return Syncer(
            store=store,
            keepers=self._wiring.keepers(),
            computer_id=store.computer_id,
            meter=self._meter,
            check_amount=self.check_amount,
        )

    def check_amount(self, runtime: RuntimeRecord, size_bytes: int) -> None:
        """Raise when so many bytes are not to go to that runtime unasked."""
        from colabdev.core.ngrok_usage import check_transfer

        check_transfer(runtime, self._wiring.ngrok_use().read, size_bytes)

    def path_in_project(self, project: str, typed: str) -> str:
        """What was typed, from the directory we stand in, as a path in the project."""
        path = os.path.relpath(self._wiring.absolute(Path(typed)), project).replace(os.sep, "/")
        if path in (".", "..") or path.startswith("../") or os.path.isabs(path):
            raise UsageError(
                f"{typed!r} is no file or folder inside the project {project}",
                hint="name something below it",
            )
        return path

    def mode(self, prefer: str | None, *, one_way: bool, mirror: bool) -> Mode:
        from colabdev.core.reconcile import choose_mode

        return choose_mode(prefer, one_way=one_way, mirror=mirror)

    def options(self, mode: Mode, *, dry_run: bool, force: bool) -> SyncOptions:
        from colabdev.services.exchange import SyncOptions

        return SyncOptions(dry_run=dry_run, force=force, mode=mode)

    def project(self, max_bytes: int | None = None) -> SyncedProject:
        """The project we stand in, which there must be; `max_bytes` as for `opener`."""
        return self.opener(max_bytes).open(standing.own_project().path)

    def opener(self, max_bytes: int | None = None) -> Opener:
        """`max_bytes`: larger files are not taken along; None: those of more than the usual size."""
        from colabdev.adapters.opening import Opener

        if max_bytes is None:
            max_bytes = parse_size(DEFAULT_MAX_SIZE)
        state_dir = self._wiring.places().state_dir
        return Opener(state_dir, _compile_rules, _load_synced_settings, max_bytes)

    def watch(
        self, record: RuntimeRecord, project: SyncedProject, mode: Mode, *, as_json: bool
    ) -> Watch:
        """Keeps that project and the runtime in step, and says so."""
        from colabdev.cli.render_watch import WatchAsJson, WatchInWords
        from colabdev.services.exchange import SyncOptions
        from colabdev.services.watch import Watch, Watched

        opener, path = self.opener(project.max_bytes), Path(project.path)
        return Watch(
            Watched(
                runtime=record.name,
                project=lambda: opener.open(path),
                options=SyncOptions(mode=mode, outputs=False),
            ),
            syncer=self.syncer(),
            store=self._wiring.store(),
            keepers=self._wiring.keepers(),
            audience=WatchAsJson() if as_json else WatchInWords(),
        )


def _compile_rules(lines: Iterable[str]) -> list[Rule]:
    from colabdev.adapters.ignore_files import compile_rules

    return compile_rules(lines)


def _load_synced_settings(file: Path) -> SyncedSettings:
    from colabdev.config.settings import load_synced_settings

    return load_synced_settings(file)
