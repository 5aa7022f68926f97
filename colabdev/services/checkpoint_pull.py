"""Bringing checkpoints to this computer: over SSH, gone on with after a cut, and proved here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from colabdev.agent import manifest
from colabdev.core.checkpoints import Checkpoint, JobCheckpoints, parse_checkpoint, parse_jobs
from colabdev.crash_points import crash_point
from colabdev.errors import ColabdevError, RuntimeUnreachable
from colabdev.models import Phase, RuntimeRecord
from colabdev.ports import (
    AgentStream,
    BrokenCopy,
    CheckpointCopies,
    JobStore,
    Meter,
    RuntimeStore,
)
from colabdev.services.checkpoint_tokens import TokenGiver

log = logging.getLogger(__name__)

KEPT = 2
"""So many copies of each job stay: the newest may be damaged tomorrow."""
_LOOK_S = 1.0
_LOOK_AGAIN_S = 15.0
_POLL_S = 1.0


def bring(
    agent: AgentStream, wanted: Checkpoint, copies: CheckpointCopies, meter: Meter
) -> Checkpoint:
    """Have a verified copy of that checkpoint here, and tell the runtime so; it is CONFIRMED then.

    `BrokenCopy` when what came is not what the manifest says; nothing of it stays then.
    """
    job, name = wanted.job, wanted.name
    with copies.coming(job):
        if copies.load(job, name) is None:
            _receive(agent, wanted, copies, meter)
    here = copies.load(job, name)
    if here is None:
        raise BrokenCopy("it went in the meantime")
    place = str(copies.path(job, name))
    proved = {"job": job, "name": name, "sha256": here.sha256, "path": place}
    answer, _ = agent.request("checkpoint.confirm", proved)
    return parse_checkpoint(job, answer.get("row"))


def _receive(
    agent: AgentStream, wanted: Checkpoint, copies: CheckpointCopies, meter: Meter
) -> None:
    place = {"job": wanted.job, "name": wanted.name}
    _, content = agent.request("checkpoint.manifest", place)
    coming = copies.begin(wanted.job, wanted.name, content)
    told = manifest.parse(content)
    done = sum(coming.size_of(entry.path) for entry in told.files)
    for entry in told.files:
        offset = coming.size_of(entry.path)
        asked = {**place, "path": entry.path, "offset": offset}
        for header, body in agent.stream("checkpoint.fetch", asked):
            # Also nothing: a file may be empty.
            coming.append(entry.path, offset, body)
            offset, done = offset + len(body), done + len(body)
            meter("received", done, told.size_bytes)
            if header.get("end"):
                break
    crash_point("pull.received")
    coming.place()
    crash_point("pull.placed")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPulls:
    """What the keeper does for `pull`: the newest checkpoint of each job is here, soon after it is
    whole. One that is being brought is finished first: newer ones would never let any arrive."""

    name: str
    runtimes: RuntimeStore
    jobs: JobStore
    copies: CheckpointCopies
    open_agent: Callable[[], AgentStream]
    tokens: TokenGiver
    note_safe: Callable[[JobCheckpoints], None] = lambda job: None
    """Told of each job's, as its runtime tells of them."""

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping`. It holds an agent only while a job writes checkpoints, and asks for one
        only while a job goes on: sessions are few."""
        seen: object = None
        again = pause_s = 0.0
        while not stopping.wait(_LOOK_S):
            version = self.jobs.version()
            if version != seen:
                pause_s = _LOOK_S
            elif time.monotonic() < again:
                continue
            try:
                runtime = self.runtimes.load(self.name)
                if runtime is not None and runtime.phase is Phase.UP and self._may_have_some(seen):
                    with closing(self.open_agent()) as agent:
                        while self._pull(agent, runtime) and not stopping.wait(_POLL_S):
                            pass
                seen = version
            except ColabdevError as exc:
                log.info("cannot bring checkpoints here: %s", exc.message)
            # A job that was just written down may still be on its way to the runtime.
            again = time.monotonic() + pause_s
            pause_s = min(2 * pause_s, _LOOK_AGAIN_S)

    def _may_have_some(self, seen: object) -> bool:
        """Whether one of its jobs goes on; at first nobody knows what was left to be brought."""
        if seen is None:
            return True
        jobs = (self.jobs.load(job_id) for job_id in self.jobs.ids())
        return any(job and job.runtime == self.name and not job.state.is_end for job in jobs)

    def _pull(self, agent: AgentStream, runtime: RuntimeRecord) -> bool:
        """Bring what is to be here; whether there may be more soon."""
        answer, _ = agent.request("checkpoint.list", {"runtime": runtime.request_id, "job": None})
        jobs = parse_jobs(answer)
        for job in jobs:
            self.note_safe(job)
        self.tokens.give(agent, jobs)
        carried = [self._pull_job(agent, job) for job in jobs if manifest.PULL in job.stores]
        return any(carried) or any(job.is_carried and job.needs_tokens for job in jobs)

    def _pull_job(self, agent: AgentStream, job: JobCheckpoints) -> bool:
        known = next((one for one in job.checkpoints if one.is_on_runtime), None)
        if known is not None and known.levels.get(manifest.PULL) != manifest.CONFIRMED:
            began = time.monotonic()
            try:
                bring(agent, known, self.copies, lambda word, done, total: None)
            except BrokenCopy as exc:
                log.warning("%s of %s did not arrive whole: %s", known.name, job.job, exc)
            except RuntimeUnreachable:
                raise
            except ColabdevError as exc:
                # Another job's may do all the same; and it may be pruned there meanwhile.
                log.info("cannot bring %s of %s here: %s", known.name, job.job, exc.message)
            else:
                log.info("%s of %s is here, %.1f s", known.name, job.job, time.monotonic() - began)
                prune_copies(self.copies, job)
        return job.is_carried


def prune_copies(copies: CheckpointCopies, job: JobCheckpoints) -> None:
    """Let go of old copies. Those of which the runtime tells are in its order; the newest stay."""
    here = set(copies.names(job.job))
    known = [one.name for one in job.checkpoints if one.name in here]
    for name in known[KEPT:]:
        copies.delete(job.job, name)
