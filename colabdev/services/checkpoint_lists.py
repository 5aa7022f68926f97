"""Which checkpoints there are: on a runtime, on its Drive by Drive's own word, and on this computer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


def runs_in_store(
    agent: AgentStream, place: Mapping[str, object], job: str | None = None
) -> Sequence[StoredRun]:
    """The jobs that a store has something of, newest first; of `job` alone also which checkpoints."""
    for header, _ in agent.stream("checkpoint.stored", {**place, "job": job}):
        if header.get("end"):
            if header.get("problem"):
                raise ColabdevError(
                    f"cannot look into the store: {header['problem']}",
                    hint="type it again in a while",
                )
            return parse_runs(header)
    raise AssertionError("the agent's stream ends with `end`, or raises")


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """Which store is looked into, and where the Drive API is."""

    name: str
    api_url: str


def find_store(
    runtime: RuntimeRecord, project: str | None, store: StoreChoice
) -> Mapping[str, object] | None:
    """Where the runtime's store keeps that project's checkpoints; None without a Drive or a project."""
    drive_dir = usable_machine(runtime).drive_dir
    if project is None or (drive_dir is None and store.name != manifest.DRIVEAPI):
        return None
    return {
        "store": store.name,
        "drive_dir": drive_dir,
        "api_url": store.api_url,
        "project": project,
    }


def run_in_store(agent: AgentStream, place: Mapping[str, object], job: str) -> StoredRun:
    """The job as a store has it; empty when it has nothing of it."""
    found = [run for run in runs_in_store(agent, place, job) if run.job == job]
    return found[0] if found else StoredRun(job, 0.0, ())


def copies_here(copies: CheckpointCopies) -> Sequence[Checkpoint]:
    """The copies on this computer, newest first for each job."""
    found: list[Checkpoint] = []
    for job in copies.jobs():
        rows = [_copy(copies, job, name) for name in copies.names(job)]
        found += sorted((one for one in rows if one is not None), key=order_of, reverse=True)
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


def order_of(one: Checkpoint) -> tuple[int, int, float]:
    """The higher, the newer, among those of one job."""
    return one.attempt, -1 if one.step is None else one.step, one.saved
