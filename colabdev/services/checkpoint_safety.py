"""What stands between a runtime's release and its checkpoints: proof that the newest of each is safe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass

from colabdev.agent import manifest
from colabdev.core.checkpoints import JobCheckpoints, describe_checkpoint
from colabdev.errors import CheckpointNotFound, ColabdevError, NotSafeToRelease
from colabdev.models import Phase, RuntimeRecord
from colabdev.ports import AgentStream, CheckpointCopies, Keepers, Meter, Progress
from colabdev.services.checkpoint_lists import jobs_on
from colabdev.services.checkpoint_push import PUSH_TIMEOUT_S, Pushed, Pusher

READY_TIMEOUT_S = 15.0
FORCED_TIMEOUT_S = 20.0
"""Whoever gives up what is not safe need not wait for it."""

Ask = Callable[[str, str], bool]
"""Whether somebody at the terminal says yes to a question about a runtime; no when nobody is there."""


@dataclass(frozen=True, slots=True)
class Risk:
    """A job whose newest checkpoint is not proved to be safe."""

    job: JobCheckpoints
    pushed: Pushed

    @property
    def is_published(self) -> bool:
        """Drive itself says that all of it is there."""
        return manifest.is_enough(self.pushed.checkpoint.level, manifest.PUBLISHED)

    def __str__(self) -> str:
        newest, safe = self.pushed.checkpoint, self.job.safe
        level = "unproven" if newest.unproven else newest.level.upper()
        said = f"the newest checkpoint of {self.job.job}, {describe_checkpoint(newest)}, is {level}"
        if safe is not None and safe.name != newest.name:
            said += f", and {describe_checkpoint(safe)} is {safe.level.upper()}"
        return f"{said} ({self.pushed.problem})" if self.pushed.problem else said


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSafety:
    """Sees that no checkpoint is lost with its runtime unless somebody said so."""

    keepers: Keepers
    copies: CheckpointCopies
    meter: Meter
    ask: Ask
    accepts_published: Callable[[str], bool]
    """Whether the project in that folder takes Drive's own word now; its jobs may be older."""

    def secure(self, runtime: RuntimeRecord, progress: Progress, *, force: bool) -> Collection[str]:
        """Have the newest checkpoint of each job made safe; returns the jobs that have any, or may.

        Raises `NotSafeToRelease` when one cannot be, unless `force`, or somebody says that Drive's own
        word is enough. A runtime that cannot be asked is said to be so, and no reason to keep paying.
        """
        machine = runtime.machine
        if machine is None or runtime.phase is Phase.LOST or machine.ssh.login is not None:
            return ()  # A host of the user's own keeps its files.
        try:
            keeper = self.keepers.ensure(runtime.name)
            keeper.wait_ready(READY_TIMEOUT_S)
            with closing(keeper.agent()) as agent:
                # The first one of a job that goes on may not have been found yet.
                known = jobs_on(agent, runtime)
                jobs = [job for job in known if job.newest is not None or job.is_carried]
                timeout_s = FORCED_TIMEOUT_S if force else PUSH_TIMEOUT_S
                risks = self._risks(agent, jobs, progress, timeout_s)
        except ColabdevError as exc:
            progress(f"cannot ask {runtime.name} how safe its checkpoints are: {exc.message}")
            return ()
        self._judge(runtime, risks, progress, force=force)
        return [job.job for job in jobs]

    def _risks(
        self,
        agent: AgentStream,
        jobs: Sequence[JobCheckpoints],
        progress: Progress,
        timeout_s: float,
    ) -> Sequence[Risk]:
        pusher = Pusher(
            copies=self.copies, meter=self.meter, progress=progress, timeout_s=timeout_s
        )
        # One that is safe and whose job has ended will not change any more.
        waiting = [job for job in jobs if job.is_carried or not job.is_safe]
        for job in waiting:
            if job.newest is not None and not job.is_safe:
                progress(f"waiting for proof that the newest checkpoint of {job.job} is safe")
        pushed = [(job, _push(pusher, agent, job)) for job in waiting]
        return [Risk(job, done) for job, done in pushed if done is not None and not done.is_safe]

    def _judge(
        self, runtime: RuntimeRecord, risks: Sequence[Risk], progress: Progress, *, force: bool
    ) -> None:
        if any(self.accepts_published(link.path) for link in runtime.projects):
            risks = [risk for risk in risks if not risk.is_published]
        if not risks:
            return
        sentence = "; ".join(map(str, risks))
        if force:
            progress(f"giving up what is not safe: {sentence}")
            return
        may_ask = all(risk.is_published for risk in risks)
        question = f"{sentence}: by Drive's own word alone. Release {runtime.name} all the same?"
        if may_ask and self.ask(runtime.name, question):
            return
        raise NotSafeToRelease(
            f"cannot release {runtime.name!r}: {sentence}",
            hint="colabdev checkpoints pull brings it here; "
            + ('[checkpoints] accept = "published" takes Drive\'s word; ' if may_ask else "")
            + f"colabdev down {runtime.name} --force gives up what is not safe",
        )


def _push(pusher: Pusher, agent: AgentStream, job: JobCheckpoints) -> Pushed | None:
    """None when the job has no checkpoint, and had none."""
    try:
        return pusher.push(agent, job)
    except CheckpointNotFound:
        if job.newest is not None:
            raise
        return None
