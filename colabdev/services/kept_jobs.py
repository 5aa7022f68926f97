"""Bringing home from Drive what a runtime left there that gave itself back while nobody was here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress

from colabdev.agent import jobdir
from colabdev.agent.jobdir import STATUS
from colabdev.core.job_records import as_it_stands, told_by_runtime
from colabdev.errors import ColabdevError, ProtocolError, StateUnreadable
from colabdev.models import JobRecord, JobState
from colabdev.ports import AgentStream, JobStore, Progress, RuntimeStore
from colabdev.services.known_jobs import readable_jobs, write_standing


class KeptJobs:
    """The jobs whose end nobody here saw."""

    def __init__(self, runtimes: RuntimeStore, jobs: JobStore) -> None:
        self._runtimes = runtimes
        self._jobs = jobs

    def bring_home(self, agent: AgentStream, drive_dir: str, progress: Progress) -> None:
        """Ask a runtime that has Drive mounted for them. What goes wrong is said: they stay there."""
        lost = {job.id: job for job in readable_jobs(self._jobs) if self._is_lost(job)}
        if not lost:
            return
        asked = {"drive_dir": drive_dir, "ids": sorted(lost), "known": self._known(lost.values())}
        try:
            for header, body in agent.stream("job.kept", asked):
                if header.get("end"):
                    return
                job = lost.get(str(header.get("id")))
                if job is None:
                    raise ProtocolError("the runtime sends a job that nobody asked for")
                attempt, offset = header.get("attempt"), header.get("offset")
                if not isinstance(attempt, int):
                    raise ProtocolError("the runtime sends a log and does not say of which attempt")
                if isinstance(offset, int):
                    self._jobs.append(job.id, attempt, offset, body)
                if "records" in header and attempt >= job.attempt:
                    self._take(job, header["records"])
                    progress(f"{job.id} came home from Drive, as its runtime left it there")
        except ColabdevError as exc:
            progress(f"cannot bring jobs home from Drive: {exc.message}")

    def _known(self, jobs: Iterable[JobRecord]) -> Mapping[str, Mapping[str, int]]:
        """How much of each attempt's log is here."""
        return {
            job.id: {
                str(attempt): self._jobs.log_size(job.id, attempt)
                for attempt in range(jobdir.FIRST_ATTEMPT, job.attempt + 1)
            }
            for job in jobs
        }

    def _is_lost(self, job: JobRecord) -> bool:
        """As far as is known here, and with a machine that could leave something."""
        with suppress(StateUnreadable):
            stands = as_it_stands(job, self._runtimes.load(job.runtime))
            return stands.state is JobState.LOST and job.ours
        return False

    def _take(self, job: JobRecord, records: object) -> None:
        if not isinstance(records, Mapping):
            raise ProtocolError(f"cannot understand what Drive has of {job.id}")
        texts = {str(name): str(text) for name, text in records.items()}
        try:
            status = json.loads(texts.get(STATUS, "null"))
        except ValueError as exc:
            raise ProtocolError(f"cannot understand what Drive has of {job.id}: {exc}") from exc
        ended = told_by_runtime(job, status)
        self._jobs.save_records(job.id, texts)
        write_standing(self._jobs, ended)
