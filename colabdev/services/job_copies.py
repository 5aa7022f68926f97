"""Keeping this computer's copies of a runtime's jobs in step with it, whoever follows them or not: what
the keeper does for them as long as any goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from colabdev.agent.pruning import Ended, prunable
from colabdev.core.job_records import START_TIMEOUT, is_machine_gone, parse_news
from colabdev.errors import ColabdevError, StateUnreadable
from colabdev.models import JobRecord, JobState, Phase, RuntimeRecord
from colabdev.ports import AgentStream, JobStore, RuntimeStore
from colabdev.services.job_logs import JobLogs
from colabdev.services.known_jobs import readable_jobs

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LOOK_AGAIN_S = 15.0
"""What could not be brought home, or was missed, is looked for so often."""


class JobCopies:
    """The copies of one runtime's jobs. A running job's lacks at most the last 2 s and a round trip."""

    def __init__(self, name: str, *, runtimes: RuntimeStore, jobs: JobStore, logs: JobLogs) -> None:
        self._name = name
        self._runtimes = runtimes
        self._jobs = jobs
        self._logs = logs
        self._seen: tuple[object, float] = (None, float("-inf"))
        self._coming: dict[tuple[str, int], float] = {}
        """Attempts that their runtime did not know, since when."""

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping`. It asks for an agent only while a job is to come home: sessions are few."""
        while not stopping.wait(_LOOK_S):
            version = self._jobs.version()
            if self._seen[0] == version and time.monotonic() < self._seen[1]:
                continue
            try:
                runtime = self._runtimes.load(self._name)
                if runtime is not None and runtime.phase is Phase.UP:
                    self._bring(runtime)
            except ColabdevError as exc:
                log.info("cannot bring jobs home: %s", exc.message)
            else:
                self._seen = (version, time.monotonic() + _LOOK_AGAIN_S)

    def _bring(self, runtime: RuntimeRecord) -> None:
        """Follow all that is not home yet, until all has ended and is."""
        version, known = self._jobs.version(), self._awaited(runtime)
        if not known:
            return
        with closing(self._logs.agent(self._name)) as agent:
            while known:
                asked = {"runtime": runtime.request_id, "known": known, "limit_s": _LOOK_AGAIN_S}
                rows = parse_news(agent.request("job.news", asked)[0])
                ended = {job_id for job_id, row in rows.items() if self._take(agent, row)}
                coming = {job_id: 0 for job_id in known.keys() - rows.keys() if self._comes(job_id)}
                there = {job_id: int(rows[job_id]["log_bytes"]) for job_id in rows.keys() - ended}
                known = {**coming, **there}
                if ended:
                    self._prune(agent, runtime)
                if self._jobs.version() != version:
                    version = self._jobs.version()
                    new = self._awaited(runtime)
                    known.update((job_id, new[job_id]) for job_id in new.keys() - rows.keys())

    def _comes(self, job_id: str) -> bool:
        """Whether a job that its runtime does not know may be on its way to it: it is written down
        before it is started there."""
        job = self._jobs.load(job_id)
        if job is None or job.state is not JobState.QUEUED:
            return False
        since = self._coming.setdefault((job_id, job.attempt), time.monotonic())
        return time.monotonic() - since < START_TIMEOUT.total_seconds()

    def _awaited(self, runtime: RuntimeRecord) -> dict[str, int]:
        """How much is here of the logs of those that are not home."""
        return {
            job.id: self._jobs.log_size(job.id, job.attempt) for job in self._logs.awaited(runtime)
        }

    def _take(self, agent: AgentStream, row: Mapping[str, Any]) -> bool:
        """Bring home what is new of that job; whether it has ended."""
        job = self._jobs.load(row["id"])
        if job is None or not job.ours:
            return bool(row["ended"])  # `ps` writes down what is not known here.
        if self._jobs.log_size(job.id, job.attempt) < row["log_bytes"] or row["ended"]:
            job = self._logs.fetch(agent, job, log.info)
        return job.state.is_end

    def _prune(self, agent: AgentStream, runtime: RuntimeRecord) -> None:
        """Let go of old jobs, there and then here; never here alone what is still there."""
        home = [job.id for job in self._logs.home(runtime)]
        answer, _ = agent.request("job.prune", {"ids": home})
        removed = answer.get("removed")
        gone = set(removed if isinstance(removed, list) else ())
        old = prunable(
            (
                Ended(job.id, job.name, job.ended.timestamp() if job.ended else None)
                for job in self._ended()
            ),
            time.time(),
        )
        elsewhere = {job.id for job in self._ended() if self._is_gone(job)}
        for job_id in (gone & set(home)) | (elsewhere & set(old)):
            self._jobs.delete(job_id)

    def _ended(self) -> Sequence[JobRecord]:
        return [job for job in readable_jobs(self._jobs) if job.state.is_end]

    def _is_gone(self, job: JobRecord) -> bool:
        try:
            return is_machine_gone(job, self._runtimes.load(job.runtime))
        except StateUnreadable:
            return False
