"""The part of the keeper's composition root that builds what brings things home.

Each asks this very keeper as any client does, by its socket: so it waits for a connection as they do.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from colabdev.adapters.checkpoint_copies import FileCheckpointCopies
from colabdev.adapters.job_store import FileJobStore
from colabdev.adapters.keepers import LocalKeepers
from colabdev.adapters.ngrok_use import NgrokUse
from colabdev.adapters.own_code import OwnCode
from colabdev.adapters.recovery_store import FileRecoveryStore
from colabdev.adapters.store import FileStore
from colabdev.adapters.typed_commands import type_command
from colabdev.config.places import Places
from colabdev.core.checkpoints import JobCheckpoints
from colabdev.core.ngrok_usage import check_transfer
from colabdev.core.sizes import DEFAULT_MAX_SIZE, parse_size
from colabdev.errors import ColabdevError, RuntimeUnreachable, StateUnreadable
from colabdev.keeper.continuing import Continuing
from colabdev.keeper.editors import EditorWatch, LogAudience
from colabdev.models import JobRecord, JobState
from colabdev.models.recovery import Resumed
from colabdev.services.checkpoint_pull import CheckpointPulls
from colabdev.services.checkpoint_tokens import TokenGiver
from colabdev.services.code_copies import CodeCopies
from colabdev.services.foresight import Foresight
from colabdev.services.job_copies import JobCopies
from colabdev.services.job_logs import JobLogs
from colabdev.services.recovery_cases import RecoveryCases

if TYPE_CHECKING:
    from colabdev.adapters.opening import Opener
    from colabdev.providers.colab.login import GoogleLogin
    from colabdev.services.sync import Syncer
    from colabdev.services.watch import Watch

log = logging.getLogger(__name__)


class HomeTasks:
    """Builds the tasks of the keeper of `name`."""

    def __init__(self, name: str, places: Places, store: FileStore) -> None:
        self._name = name
        self._places = places
        self._store = store
        self._keepers = LocalKeepers(store, _start_no_other, own=True)
        self._jobs = FileJobStore(places.state_dir)
        self._plans = FileRecoveryStore(places.state_dir)
        self._logs = JobLogs(runtimes=store, keepers=self._keepers, jobs=self._jobs)

    def editor_watch(self) -> EditorWatch:
        """Syncs while somebody is on the runtime."""
        return EditorWatch(self._name, self._keepers, self._watches)

    def job_copies(self) -> JobCopies:
        """Brings jobs' logs here."""
        return JobCopies(self._name, runtimes=self._store, jobs=self._jobs, logs=self._logs)

    def is_over(self, job_id: str) -> bool:
        """Whether that job is known to have ended by itself, or to be forgotten."""
        try:
            job = self._jobs.load(job_id)
        except StateUnreadable:
            return False
        return job is None or (job.state.is_end and job.state is not JobState.LOST)

    def checkpoint_pulls(self, google_login: Callable[[], GoogleLogin]) -> CheckpointPulls:
        """Brings checkpoints here, where that is one of their stores."""
        return CheckpointPulls(
            name=self._name,
            runtimes=self._store,
            jobs=self._jobs,
            copies=FileCheckpointCopies(self._places.state_dir),
            open_agent=lambda: self._logs.agent(self._name),
            tokens=TokenGiver(google_login),
            note_safe=self._note_safe,
        )

    def code_copies(self) -> CodeCopies:
        """Brings the code here of jobs that may go on elsewhere."""
        return CodeCopies(
            name=self._name,
            runtimes=self._store,
            jobs=self._jobs,
            plans=self._plans,
            own_code=OwnCode(self._places.state_dir / "indexes", self._store.computer_id).pieces,
            open_agent=lambda: self._logs.agent(self._name),
        )

    def _note_safe(self, job: JobCheckpoints) -> None:
        """What the next machine of a job must not fall behind."""
        if job.safe is not None and self._plans.has_order(job.job):
            self._plans.note_safe(job.job, Resumed(job.safe.attempt, job.safe.step))

    def continuing(
        self,
        *,
        environment: Mapping[str, str],
        is_lost: Callable[[], bool],
        was_let_go: Callable[[], str],
    ) -> Continuing:
        """Goes on with jobs on the next machine."""
        said = self._places.log_dir / f"continue-{self._name}.log"

        def type_it(job: JobRecord) -> None:
            words = ["run", "--continue", job.id, "--agreed", "--detach", "--json"]
            try:
                type_command(words, environment, said, with_progress=True)
            except (OSError, subprocess.TimeoutExpired) as exc:
                log.warning("cannot go on with %s: %s", job.id, exc)

        return Continuing(
            name=self._name,
            cases=RecoveryCases(
                runtimes=self._store,
                jobs=self._jobs,
                plans=self._plans,
            ),
            type_command=type_it,
            is_lost=is_lost,
            was_let_go=was_let_go,
        )

    def foresight(
        self, funds_end: Callable[[], datetime | None], is_unpaid: Callable[[], bool]
    ) -> Foresight:
        """Has jobs save before the runtime ends."""
        return Foresight(
            name=self._name,
            runtimes=self._store,
            open_agent=lambda: self._logs.agent(self._name),
            funds_end=funds_end,
            is_unpaid=is_unpaid,
        )

    def _watches(self) -> Mapping[str, Callable[[], Watch]]:
        """The projects that were synced with this runtime before, and do not forbid it."""
        # Loaded when somebody edits: most keepers need none of it.
        from colabdev.adapters.ignore_files import compile_rules
        from colabdev.adapters.opening import Opener
        from colabdev.config.settings import load_synced_settings
        from colabdev.services.sync import Syncer

        record = self._store.load(self._name)
        state_dir = self._places.state_dir
        opener = Opener(
            state_dir, compile_rules, load_synced_settings, parse_size(DEFAULT_MAX_SIZE)
        )
        syncer = Syncer(
            store=self._store,
            keepers=self._keepers,
            computer_id=self._store.computer_id,
            meter=lambda word, done, total: None,
            check_amount=lambda runtime, size_bytes: check_transfer(
                runtime, NgrokUse(state_dir).read, size_bytes
            ),
        )
        paths = [Path(link.path) for link in record.projects] if record else []
        return {
            str(path): partial(self._watch, opener, syncer, path)
            for path in paths
            if _is_to_be_watched(opener, self._name, path)
        }

    def _watch(self, opener: Opener, syncer: Syncer, path: Path) -> Watch:
        from colabdev.services.watch import Watch, Watched

        return Watch(
            Watched(runtime=self._name, project=lambda: opener.open(path)),
            syncer=syncer,
            store=self._store,
            keepers=self._keepers,
            audience=LogAudience(),
        )


def _is_to_be_watched(opener: Opener, name: str, path: Path) -> bool:
    try:
        project = opener.open(path)
        return opener.settings(path).watch and project.memory.load(name) is not None
    except ColabdevError as exc:
        log.info("does not watch %s: %s", path, exc.message)
        return False


def _start_no_other(name: str) -> Mapping[str, object]:
    raise RuntimeUnreachable(f"this keeper of {name!r} ends", hint="type the command again")
