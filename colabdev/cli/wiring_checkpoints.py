"""The part of the command line's composition root that has to do with checkpoints."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from colabdev.cli import output, standing, terminal
from colabdev.config.places import drive_api_url
from colabdev.errors import ColabdevError

if TYPE_CHECKING:
    from colabdev.adapters.checkpoint_copies import FileCheckpointCopies
    from colabdev.config.places import Places
    from colabdev.models import RuntimeRecord
    from colabdev.ports import Keepers, Meter
    from colabdev.services.checkpoint_lists import StoreChoice
    from colabdev.services.checkpoint_restore import CheckpointRestorer, RestoredCheckpoint
    from colabdev.services.checkpoint_safety import Ask, CheckpointSafety
    from colabdev.services.checkpoints import Checkpoints


class _AskOnce:
    """Asks at the terminal; a yes about a runtime is remembered, because it comes up twice."""

    def __init__(self) -> None:
        self._agreed: set[str] = set()

    def __call__(self, runtime: str, question: str) -> bool:
        if runtime not in self._agreed and terminal.has_keyboard() and output.agrees(question):
            self._agreed.add(runtime)
        return runtime in self._agreed


def _ask_nobody(runtime: str, question: str) -> bool:
    return False


class CheckpointWiring:
    """Builds what the commands about checkpoints ask for."""

    def __init__(self, places: Places, keepers: Keepers, meter: Meter | None) -> None:
        """`meter` is None at a terminal; a program that has one of its own is asked nothing."""
        self._places = places
        self._keepers = keepers
        self._meter = meter or output.Meter()
        self._ask: Ask = _AskOnce() if meter is None else _ask_nobody

    def service(self) -> Checkpoints:
        from colabdev.services.checkpoints import Checkpoints

        return Checkpoints(
            keepers=self._keepers,
            copies=self.copies(),
            meter=self._meter,
            store=self.store(),
        )

    def safety(self) -> CheckpointSafety:
        from colabdev.config.project import SETTINGS_FILE
        from colabdev.services.checkpoint_safety import CheckpointSafety

        def accepts_published(path: str) -> bool:
            from colabdev.config.settings import load_settings

            with suppress(ColabdevError):  # Of a folder that went nobody knows.
                file = Path(path) / SETTINGS_FILE
                return file.exists() and load_settings(file).checkpoints.accept == "published"
            return False

        return CheckpointSafety(
            keepers=self._keepers,
            copies=self.copies(),
            meter=self._meter,
            ask=self._ask,
            accepts_published=accepts_published,
        )

    def restore(
        self,
        runtime: RuntimeRecord,
        project: str | None,
        *,
        job: str | None,
        name: str | None,
        to: str | None,
        accept_rollback: bool,
    ) -> RestoredCheckpoint:
        from colabdev.services.checkpoint_restore import RestoreWish

        wish = RestoreWish(job=job, name=name, to=to, accept_rollback=accept_rollback)
        return self.restorer().restore(runtime, project, wish)

    def restorer(self) -> CheckpointRestorer:
        from colabdev.services.checkpoint_restore import CheckpointRestorer

        return CheckpointRestorer(
            keepers=self._keepers,
            copies=self.copies(),
            meter=self._meter,
            store=self.store(),
        )

    def store(self) -> StoreChoice:
        """The first of the project's stores that a runtime can look into."""
        from colabdev.services.checkpoint_lists import StoreChoice

        project = standing.find_own_project()
        settings = project.settings if project is not None else None
        wished = settings.checkpoints.stores if settings is not None else ()
        name = next((one for one in wished if one != "pull"), "drivefs")
        return StoreChoice(name, drive_api_url(os.environ))

    def copies(self) -> FileCheckpointCopies:
        from colabdev.adapters.checkpoint_copies import FileCheckpointCopies

        return FileCheckpointCopies(self._places.state_dir)
