"""Having checkpoints made safe now, and waiting until they are."""

from __future__ import annotations

from dataclasses import dataclass

from colabdev.agent import manifest
from colabdev.core.checkpoints import (
    Checkpoint,
    JobCheckpoints,
    describe_checkpoint,
    parse_checkpoint,
)
from colabdev.errors import CheckpointNotFound, ColabdevError
from colabdev.ports import AgentStream, BrokenCopy, CheckpointCopies, Meter, Progress
from colabdev.services.checkpoint_pull import bring

PUSH_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Pushed:
    """How far a checkpoint came."""

    checkpoint: Checkpoint
    is_safe: bool
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pusher:
    """Has checkpoints made safe, and says how far they are."""

    copies: CheckpointCopies
    meter: Meter
    progress: Progress
    timeout_s: float = PUSH_TIMEOUT_S

    def push(self, agent: AgentStream, job: JobCheckpoints, name: str | None = None) -> Pushed:
        """Have that one carried up the levels, by default the newest there is.

        Where it may come to this computer it does so here and now, and so does one that the runtime
        found only because it was asked.
        """
        wanted = next((one for one in job.checkpoints if name in (None, one.name)), None)
        if wanted is not None:
            self._bring(agent, job, wanted)
        pushed = self._carry(agent, job.job, name)
        if not pushed.is_safe and (brought := self._bring(agent, job, pushed.checkpoint)):
            is_safe = manifest.is_enough(brought.level, job.accept)
            return Pushed(brought, is_safe, "" if is_safe else pushed.problem)
        return pushed

    def _bring(
        self, agent: AgentStream, job: JobCheckpoints, wanted: Checkpoint
    ) -> Checkpoint | None:
        if manifest.PULL not in job.stores or not wanted.is_on_runtime:
            return None
        try:
            return bring(agent, wanted, self.copies, self.meter)
        except BrokenCopy as exc:
            self.progress(f"{describe_checkpoint(wanted)} did not come here whole: {exc}")
        except ColabdevError as exc:
            self.progress(f"cannot bring {describe_checkpoint(wanted)} here: {exc.message}")
        return None

    def _carry(self, agent: AgentStream, job: str, name: str | None) -> Pushed:
        last = ""
        asked = {"job": job, "name": name, "timeout_s": self.timeout_s}
        for header, _ in agent.stream("checkpoint.push", asked):
            row = header.get("row")
            checkpoint = None if row is None else parse_checkpoint(job, row)
            if checkpoint is not None and checkpoint.level != last:
                last = checkpoint.level
                self.progress(f"{describe_checkpoint(checkpoint)} of {job} is {last.upper()}")
            if header.get("end"):
                problem = str(header.get("problem") or "")
                if checkpoint is None:
                    raise CheckpointNotFound(
                        f"{job} has no checkpoint: {problem or 'nothing whole is there'}",
                        hint=f"colabdev logs {job}",
                    )
                return Pushed(checkpoint, bool(header.get("is_safe")), problem)
        raise AssertionError("the agent's stream ends with `end`, or raises")
