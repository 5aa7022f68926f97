"""Which checkpoints there are: on a runtime, on its Drive by Drive's own word, and on this computer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from colabdev.agent import manifest
from colabdev.core.checkpoints import Checkpoint, JobCheckpoints, parse_jobs, parse_stored
from colabdev.core.workdirs import usable_machine
from colabdev.errors import ColabdevError
from colabdev.models import RuntimeRecord
from colabdev.ports import AgentStream, CheckpointCopies


def jobs_on(agent: AgentStream, runtime: RuntimeRecord) -> Sequence[JobCheckpoints]:
    """What the runtime tells of the checkpoints of its jobs. Touches no store."""
    asked = {"runtime": runtime.request_id, "job": None}
    return parse_jobs(agent.request("checkpoint.list", asked)[0])


def stored_on_drive(agent: AgentStream, place: Mapping[str, object]) -> Sequence[Checkpoint]:
    """What is in that place on Drive, whoever put it there; nothing of it is verified."""
    return parse_stored(agent.request("checkpoint.stored", {**place, "job": None})[0])


def place_on_drive(
    runtime: RuntimeRecord, project: str | None, api_url: str | None
) -> Mapping[str, object]:
    """Where the runtime's Drive keeps that project's checkpoints; it must have one."""
    machine = usable_machine(runtime)
    if machine.drive_dir is None or project is None:
        raise ColabdevError(
            "there is no Drive to look on" if project else "there is no project to look for",
            hint="cd into the project; colabdev status says which runtime has Drive",
        )
    return {
        "store": manifest.DRIVEFS,
        "drive_dir": machine.drive_dir,
        "api_url": api_url,
        "project": project,
    }


def copies_here(copies: CheckpointCopies) -> Sequence[Checkpoint]:
    """The copies on this computer, newest first for each job."""
    found: list[Checkpoint] = []
    for job in copies.jobs():
        rows = [_copy(copies, job, name) for name in copies.names(job)]
        found += sorted((one for one in rows if one is not None), key=_order, reverse=True)
    return found


def _copy(copies: CheckpointCopies, job: str, name: str) -> Checkpoint | None:
    told = copies.load(job, name)
    if told is None:
        return None
    return Checkpoint(
        job=job,
        name=name,
        attempt=told.attempt,
        step=told.step,
        saved=copies.arrived(job, name),
        level=manifest.CONFIRMED,
        size_bytes=told.size_bytes,
        sha256=told.sha256,
        store=manifest.PULL,
        path=str(copies.path(job, name)),
        is_on_runtime=False,
    )


def _order(one: Checkpoint) -> tuple[int, int, float]:
    return one.attempt, -1 if one.step is None else one.step, one.saved
