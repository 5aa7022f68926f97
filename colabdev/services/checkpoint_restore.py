"""`checkpoints restore`: one from Drive on a runtime's disk again, proved."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from colabdev.agent import manifest
from colabdev.core.checkpoints import (
    Checkpoint,
    StoredRun,
    choose_checkpoint,
    parse_checkpoint,
)
from colabdev.core.workdirs import usable_machine
from colabdev.errors import CheckpointNotFound, UsageError
from colabdev.models import RuntimeRecord
from colabdev.ports import CheckpointCopies, Keepers, Meter
from colabdev.services.checkpoint_lists import copies_here, place_on_drive, runs_on_drive

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreWish:
    """What is to be put on the runtime; None for the newest, and for the usual place."""

    job: str | None = None
    name: str | None = None
    to: str | None = None
    accept_older: bool = False
    """Also one that is older than the newest that was proved."""


@dataclass(frozen=True, slots=True)
class RestoredCheckpoint:
    """One that is whole on the runtime's disk again."""

    checkpoint: Checkpoint
    path: str
    rejected: Sequence[tuple[str, str]] = ()
    """Newer ones, and what was wrong with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRestorer:
    """Takes from Drive what verifies, and never falls back in silence behind what was proved."""

    keepers: Keepers
    copies: CheckpointCopies
    meter: Meter
    api_url: str | None = None

    def restore(
        self, runtime: RuntimeRecord, project: str | None, wish: RestoreWish
    ) -> RestoredCheckpoint:
        """Put it on the runtime; by default the newest of the job's lineage that verifies."""
        content_dir = usable_machine(runtime).content_dir
        place = place_on_drive(runtime, project, self.api_url)
        with closing(self.keepers.ensure(runtime.name).agent()) as agent:
            job = _choose_run(wish.job, runs_on_drive(agent, place))
            stored = runs_on_drive(agent, place, job)
            known = [one for run in stored for one in run.checkpoints]
            name = None if wish.name is None else choose_checkpoint(wish.name, job, known).name
            asked = {
                **place,
                "job": job,
                "name": name,
                "to": posixpath.join(content_dir, wish.to or f"restored/{job}"),
                "minimum": None if wish.accept_older or name else self._proved(job, known),
            }
            for header, _ in agent.stream("checkpoint.restore", asked):
                if header.get("end"):
                    return _restored(job, header)
                done, size = header.get("done"), header.get("size")
                if isinstance(done, int) and isinstance(size, int):
                    self.meter("received", done, size)
        raise AssertionError("the agent's stream ends with `end`, or raises")

    def _proved(self, job: str, stored: Sequence[Checkpoint]) -> tuple[int, int] | None:
        """Attempt and step of the newest that was proved, as far as anybody here knows."""
        marks = [
            (one.attempt, one.step)
            for one in [*stored, *copies_here(self.copies)]
            if one.job == job and one.step is not None and one.level == manifest.CONFIRMED
        ]
        return max(marks, default=None)


def _choose_run(word: str | None, runs: Sequence[StoredRun]) -> str:
    """The job that is meant among those of which something is stored; by default the newest."""
    ids = [run.job for run in runs if word is None or run.job.startswith(word)]
    if not ids:
        raise CheckpointNotFound(
            f"Drive has nothing of a job {word!r}" if word else "Drive has no checkpoint",
            hint="colabdev checkpoints ls lists what there is",
        )
    if word is not None and len(ids) > 1:
        raise UsageError(
            f"{word!r} may be {', '.join(ids[:_NAMED])}", hint="type more of the job's id"
        )
    return ids[0]


def _restored(job: str, end: Mapping[str, object]) -> RestoredCheckpoint:
    rows = end.get("rejected")
    rejected = [(str(name), str(why)) for name, why in (rows if isinstance(rows, list) else [])]
    problem = end.get("problem")
    if problem == "behind":
        raise CheckpointNotFound(
            f"cannot restore {job}: the newest on Drive is older than one that was proved",
            hint="Drive may list it later: type it again; --accept-older takes the older one",
        )
    if problem or not end.get("row"):
        named = "; ".join(f"{name}: {why}" for name, why in rejected[:3])
        reason = "none on Drive is whole" if problem in (None, "nothing") else problem
        raise CheckpointNotFound(
            f"cannot restore {job}: {reason}" + (f" ({named})" if named else ""),
            hint=f"colabdev checkpoints ls {job}",
        )
    return RestoredCheckpoint(parse_checkpoint(job, end["row"]), str(end["path"]), rejected)
