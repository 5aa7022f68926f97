"""Which checkpoints there are: on a runtime, on its Drive by Drive's own word, and on this computer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from colabdev.agent import manifest
from colabdev.core.checkpoints import (
    Checkpoint,
    JobCheckpoints,
    StoredRun,
    parse_jobs,
    parse_runs,
)
from colabdev.core.workdirs import usable_machine
from colabdev.errors import ColabdevError
from colabdev.models import RuntimeRecord
from colabdev.ports import AgentStream, CheckpointCopies


def jobs_on(agent: AgentStream, runtime: RuntimeRecord) -> Sequence[JobCheckpoints]:
    """What the runtime tells of the checkpoints of its jobs. Touches no store."""
    asked = {"runtime": runtime.request_id, "job": None}
    return parse_jobs(agent.request("checkpoint.list", asked)[0])


def runs_on_drive(
    agent: AgentStream, place: Mapping[str, object], job: str | None = None
) -> Sequence[StoredRun]:
    """The jobs that Drive has something of, newest first; of `job` alone also which checkpoints."""
    for header, _ in agent.stream("checkpoint.stored", {**place, "job": job}):
        if header.get("end"):
            if header.get("problem"):
                raise ColabdevError(
                    f"cannot look on Drive: {header['problem']}", hint="type it again in a while"
                )
            return parse_runs(header)
    raise AssertionError("the agent's stream ends with `end`, or raises")


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
