"""Bringing the frozen code of jobs here that may go on elsewhere: their machine may take it with it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from colabdev.errors import ColabdevError, NoCode
from colabdev.models import JobRecord, Phase
from colabdev.ports import AgentStream, JobStore, RuntimeStore
from colabdev.ports.recovery import RecoveryStore
from colabdev.services.known_jobs import readable_jobs

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LOOK_AGAIN_S = 15.0
"""What could not be brought is asked for again so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeCopies:
    """The code of one runtime's jobs. It asks for an agent only when there is some to bring."""

    name: str
    runtimes: RuntimeStore
    jobs: JobStore
    plans: RecoveryStore
    open_agent: Callable[[], AgentStream]

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping`."""
        seen: object = None
        again = float("-inf")
        while not stopping.wait(_LOOK_S):
            version = self.jobs.version()
            if version == seen and time.monotonic() < again:
                continue
            seen, again = version, time.monotonic() + _LOOK_AGAIN_S
            try:
                if not self.bring():
                    seen = None  # It is not known there yet: soon it is.
            except ColabdevError as exc:
                log.info("cannot bring the code of jobs here: %s", exc.message)

    def bring(self) -> bool:
        """Bring what is not here; whether that was all."""
        wanted = self._wanted()
        if not wanted:
            return True
        with closing(self.open_agent()) as agent:
            return False not in [self._bring_one(agent, job) for job in wanted]

    def _wanted(self) -> Sequence[JobRecord]:
        runtime = self.runtimes.load(self.name)
        if runtime is None or runtime.phase is not Phase.UP:
            return []
        of = (runtime.name, runtime.request_id)
        return [
            job
            for job in readable_jobs(self.jobs)
            if (job.runtime, job.request_id) == of
            and job.ours
            and not job.state.is_end
            and (job.continues is not None or self.plans.has_order(job.id))
            and self.plans.code_tree(job.id) is None
        ]

    def _bring_one(self, agent: AgentStream, job: JobRecord) -> bool:
        try:
            self.plans.receive_code(job.id, _pieces(agent, job.id))
        except NoCode as exc:
            log.warning("the code of %s is not to be had: %s", job.id, exc.message)
        except ColabdevError as exc:
            log.info("the code of %s does not come yet: %s", job.id, exc.message)
            return False
        return True


def _pieces(agent: AgentStream, job_id: str) -> Iterator[bytes]:
    for header, body in agent.stream("job.code", {"id": job_id}):
        yield body
        if header.get("end"):
            return
