"""Keeping the frozen code here of jobs that may go on elsewhere: their machine may take it with it.

It is packed from the project's own files while they still are what the job was started from, which asks
nobody, and works also once the machine has died. Else its runtime has it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from colabdev.core.job_records import START_TIMEOUT
from colabdev.errors import ColabdevError, NoCode
from colabdev.models import JobRecord, JobState, Phase
from colabdev.models.orders import JobOrder
from colabdev.ports import AgentStream, JobStore, RuntimeStore
from colabdev.ports.recovery import RecoveryStore
from colabdev.services.known_jobs import readable_jobs

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LOOK_AGAIN_S = 15.0
"""What could not be kept is tried again so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeCopies:
    """The code of one runtime's jobs. It asks for an agent only when there is some to bring."""

    name: str
    runtimes: RuntimeStore
    jobs: JobStore
    plans: RecoveryStore
    own_code: Callable[[str, JobOrder], Iterator[bytes]]
    """The archive out of the files here, of an order that was started on that runtime; NoCode when they
    are others by now."""
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
                log.info("cannot keep the code of jobs here: %s", exc.message)

    def bring(self) -> bool:
        """Keep what is not here; False when more may be had in a moment."""
        wanted = [job for job in self._missing() if not self._take_own(job)]
        there = [job for job in wanted if self._may_be_asked_for(job)]
        if not there:
            return True
        with closing(self.open_agent()) as agent:
            return False not in [self._bring_one(agent, job) for job in there]

    def _missing(self) -> Sequence[JobRecord]:
        return [
            job
            for job in readable_jobs(self.jobs)
            if job.runtime == self.name
            and job.ours
            and (not job.state.is_end or job.state is JobState.LOST)
            and self.plans.has_order(job.id)
            and self.plans.code_tree(job.id) is None
        ]

    def _take_own(self, job: JobRecord) -> bool:
        order = self.plans.order(job.id)
        if order is None:
            return False
        try:
            self.plans.receive_code(job.id, self.own_code(self.name, order))
        except NoCode as exc:
            log.debug("the code of %s: %s", job.id, exc.message)
            return False
        return True

    def _may_be_asked_for(self, job: JobRecord) -> bool:
        """Whether its runtime is there and may have it. A job is written down before it is started, and
        of one whose start failed no runtime ever tells that it runs."""
        runtime = self.runtimes.load(self.name)
        if runtime is None or runtime.phase is not Phase.UP:
            return False
        is_young = datetime.now(UTC) - job.created < START_TIMEOUT
        is_known = is_young or job.state is not JobState.QUEUED
        return is_known and runtime.request_id == job.request_id and not job.state.is_end

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
