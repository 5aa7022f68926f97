"""Jobs that were started: finding and listing them, reading their logs, stopping them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from colabdev.agent import jobdir
from colabdev.core.job_records import (
    JobsOnRuntime,
    as_it_stands,
    choose_job_id,
    found_on_runtime,
    is_started_by,
    not_on_runtime,
    parse_job_list,
    told_by_runtime,
)
from colabdev.core.last_lines import last_lines
from colabdev.errors import (
    ColabdevError,
    JobNotFound,
    ProtocolError,
    StateUnreadable,
)
from colabdev.models import JobRecord, Phase, RuntimeRecord
from colabdev.ports import JobStore, Keepers, Progress, RuntimeStore
from colabdev.services.job_input import JobInput
from colabdev.services.job_logs import JobLogs

LIST_TIMEOUT_S = 3.0
RECENT_JOBS = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """A job now, and what a client may do with it while it runs."""

    job: JobRecord
    log_bytes: int
    """How long its log is so far."""
    is_end: bool
    """The record may not know it yet: it says so when the log was read to its end."""
    pty: bool = False
    stdin: str = jobdir.NO_INPUT


@dataclass(frozen=True, slots=True)
class JobListing:
    """The jobs known here, newest first; the ids whose records could not be read; what could not be
    asked."""

    jobs: tuple[JobRecord, ...]
    unreadable: Mapping[str, StateUnreadable] = field(default_factory=dict)
    unasked: tuple[str, ...] = ()
    hidden: int = 0
    """How many more there are."""

    def recent(self) -> JobListing:
        """What people look for: all that goes on, and the newest that have ended."""
        ended = [job for job in self.jobs if job.state.is_end]
        old = set(ended[RECENT_JOBS:])
        shown = tuple(job for job in self.jobs if job not in old)
        return replace(self, jobs=shown, hidden=len(old))


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The life of jobs, as seen from this computer."""

    runtimes: RuntimeStore
    keepers: Keepers
    jobs: JobStore
    logs: JobLogs

    def follow(self, job: JobRecord, progress: Progress, *, wait: bool) -> Iterator[bytes]:
        """The job's log from its first byte, from here and from its runtime."""
        return self.logs.read(job, progress, wait=wait)

    def standing(self, job: JobRecord) -> Standing:
        """The job as its runtime has it; of one that ended, or whose machine is gone, as we do."""
        if job.state.is_end:
            size = job.log_bytes
            here = self.jobs.log_size(job.id, job.attempt)
            return Standing(job, here if size is None else size, is_end=True)
        with closing(self.logs.agent(job.runtime)) as agent:
            answer, _ = agent.request("job.status", {"id": job.id})
        return _standing(job, answer.get("status"))

    def attach(self, standing: Standing, progress: Progress) -> Iterator[bytes]:
        """The last lines of the log, then what comes, to the end; the record says then how it ended."""
        log = self.logs.read(standing.job, progress, wait=True)
        return last_lines(log, standing.log_bytes)

    def input(self, job: JobRecord, progress: Progress) -> JobInput:
        """A way for what is typed here to the job."""
        return JobInput(self.logs, job, progress)

    def find(self, word: str | None, progress: Progress) -> JobRecord:
        """The job that `word` means, by default the newest. Runtimes are only asked for a job that
        is not known here."""
        listing = self._known()
        if not listing.jobs or (
            word and not jobdir.matching(word, [job.id for job in listing.jobs])
        ):
            listing = self.ps(progress)
        if word is None:
            for unreadable in listing.unreadable.values():
                raise unreadable
            if not listing.jobs:
                raise JobNotFound("no job is known here", hint="colabdev run SCRIPT starts one")
            return listing.jobs[0]
        chosen = choose_job_id(word, [*listing.unreadable, *(job.id for job in listing.jobs)])
        if chosen in listing.unreadable:
            raise listing.unreadable[chosen]
        return next(job for job in listing.jobs if job.id == chosen)

    def ps(self, progress: Progress) -> JobListing:
        """Every job known here and on the runtimes that are up, as it stands now."""
        unasked: list[str] = []
        for name in self.runtimes.names():
            try:
                runtime = self.runtimes.load(name)
                if runtime is not None and runtime.phase is Phase.UP:
                    unasked.extend(self._ask(runtime))
            except ColabdevError as exc:
                unasked.append(f"cannot ask {name!r} for its jobs: {exc.message}")
        known = self._known()
        return JobListing(known.jobs, known.unreadable, tuple(unasked))

    def stop(self, job: JobRecord, *, grace_s: float) -> JobRecord:
        """Stop the job and say how it stands then. One that has ended stays as it is."""
        if job.state.is_end:
            return job
        with closing(self.logs.agent(job.runtime)) as agent:
            answer, _ = agent.request("job.stop", {"id": job.id, "grace_s": grace_s})
        job = told_by_runtime(job, answer.get("status"))
        self.jobs.save(job)
        return job

    def _ask(self, runtime: RuntimeRecord) -> Sequence[str]:
        """Write down what the runtime says of its jobs; returns what it cannot say."""
        keeper = self.keepers.ensure(runtime.name)
        keeper.wait_ready(LIST_TIMEOUT_S)
        with closing(keeper.agent()) as agent:
            listed, _ = agent.request("job.list")
        there = parse_job_list(listed)
        ids = set(self.jobs.ids())
        for job in self._known().jobs:
            if (job.runtime, job.request_id) == (runtime.name, runtime.request_id):
                now = _now(job, there)
                if now != job:
                    self.jobs.save(now)
        for job_id in there.rows.keys() - ids:
            if is_started_by(there.rows[job_id], runtime):
                with suppress(ProtocolError):
                    self.jobs.create(found_on_runtime(there.rows[job_id], runtime))
        return [
            f"{runtime.name!r} cannot say how {job_id} stands: {reason}"
            for job_id, reason in there.problems.items()
        ]

    def _known(self) -> JobListing:
        jobs: list[JobRecord] = []
        unreadable: dict[str, StateUnreadable] = {}
        for job_id in self.jobs.ids():
            try:
                job = self.jobs.load(job_id)
                if job is not None:
                    jobs.append(as_it_stands(job, self.runtimes.load(job.runtime)))
            except StateUnreadable as exc:
                unreadable[job_id] = exc
        jobs.sort(key=lambda job: (job.created, job.id), reverse=True)
        return JobListing(tuple(jobs), unreadable)


def _standing(job: JobRecord, status: object) -> Standing:
    told = told_by_runtime(job, status)
    assert isinstance(status, dict), "it was understood"
    size = status.get("log_bytes")
    return Standing(
        job,
        size if isinstance(size, int) else 0,
        is_end=told.state.is_end,
        pty=bool(status.get("pty")) and not told.state.is_end,
        stdin=str(status.get("stdin", jobdir.NO_INPUT)),
    )


def _now(job: JobRecord, there: JobsOnRuntime) -> JobRecord:
    """The job in view of what its runtime says."""
    if job.id in there.rows:
        return told_by_runtime(job, there.rows[job.id])
    return job if job.id in there.problems else not_on_runtime(job, datetime.now(UTC))
