"""The part of the command line's composition root that has to do with checkpoints."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from colabdev.cli import output, terminal
from colabdev.config.places import drive_api_url
from colabdev.errors import ColabdevError

if TYPE_CHECKING:
    from colabdev.adapters.checkpoint_copies import FileCheckpointCopies
    from colabdev.adapters.opening import Opener
    from colabdev.config.places import Places
    from colabdev.models import RuntimeRecord
    from colabdev.ports import Keepers, Meter
    from colabdev.services.checkpoint_restore import RestoredCheckpoint
    from colabdev.services.checkpoint_safety import CheckpointSafety
    from colabdev.services.checkpoints import Checkpoints


class _AskOnce:
    """Asks at the terminal; a yes is remembered, because what it is about comes up twice."""

    def __init__(self) -> None:
        self._agreed = False

    def __call__(self, question: str) -> bool:
        self._agreed = self._agreed or (terminal.has_keyboard() and output.agrees(question))
        return self._agreed


class CheckpointWiring:
    """Builds what the commands about checkpoints ask for."""

    def __init__(self, places: Places, keepers: Keepers, meter: Meter) -> None:
        self._places = places
        self._keepers = keepers
        self._meter = meter

    def service(self) -> Checkpoints:
        from colabdev.services.checkpoints import Checkpoints

        return Checkpoints(
            keepers=self._keepers,
            copies=self.copies(),
            meter=self._meter,
            api_url=drive_api_url(os.environ),
        )

    def safety(self, opener: Opener) -> CheckpointSafety:
        from colabdev.services.checkpoint_safety import CheckpointSafety

        def accepts_published(path: str) -> bool:
            with suppress(ColabdevError):  # Of a folder that went nobody knows.
                return opener.settings(Path(path)).checkpoints.accept == "published"
            return False

        return CheckpointSafety(
            keepers=self._keepers,
            copies=self.copies(),
            meter=self._meter,
            ask=_AskOnce(),
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
        accept_older: bool,
    ) -> RestoredCheckpoint:
        from colabdev.services.checkpoint_restore import CheckpointRestorer, RestoreWish

        restorer = CheckpointRestorer(
            keepers=self._keepers,
            copies=self.copies(),
            meter=self._meter,
            api_url=drive_api_url(os.environ),
        )
        wish = RestoreWish(job=job, name=name, to=to, accept_older=accept_older)
        return restorer.restore(runtime, project, wish)

    def copies(self) -> FileCheckpointCopies:
        from colabdev.adapters.checkpoint_copies import FileCheckpointCopies

        return FileCheckpointCopies(self._places.state_dir)
