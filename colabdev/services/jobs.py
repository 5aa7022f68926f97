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
    choose_by_name,
    choose_job_id,
    found_on_runtime,
    not_on_runtime,
    parse_job_list,
    told_by_runtime,
)
from colabdev.core.last_lines import last_lines
from colabdev.core.outlook import Outlook, Prices, bounds_of, outlook_of
from colabdev.core.usage import parse_rows, time_of
from colabdev.errors import (
    ColabdevError,
    JobNotFound,
    ProtocolError,
    RuntimeLost,
    StateUnreadable,
)
from colabdev.models import Begin, JobRecord, JobState, Phase, RuntimeRecord
from colabdev.ports import JobStore, Keepers, Progress, RuntimeStore
from colabdev.services.hand_overs import HandOvers
from colabdev.services.job_attempts import JobAttempts
from colabdev.services.job_input import JobInput
from colabdev.services.job_logs import JobLogs
from colabdev.services.known_jobs import write_standing
from colabdev.services.known_runtimes import note_lost
from colabdev.services.log_reading import LogPiece, bytes_of
from colabdev.services.recovery_cases import end_consent

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
    broken: tuple[StateUnreadable, ...] = ()
    """The runtimes whose state cannot be read; their jobs are as they were last known."""
    unasked: tuple[str, ...] = ()
    """What could not be asked, or be written down, in words."""
    unreached: tuple[str, ...] = ()
    """The runtimes that could not be asked."""
    answers: Mapping[str, JobsOnRuntime] = field(default_factory=dict)
    """What the runtimes said that could be asked, by their names."""
    hidden: int = 0
    """How many more there are."""
    between: frozenset[str] = frozenset()
    """The jobs that are being brought to their next machine; no machine is to be asked about them."""
    outlooks: Mapping[str, Outlook] = field(default_factory=dict)
    """What is ahead of those that run and tell their steps, by their ids."""

    def errors(self) -> Sequence[StateUnreadable]:
        """All that could not be read."""
        return [*self.broken, *self.unreadable.values()]

    def is_current(self, job: JobRecord) -> bool:
        """Whether the job stands so now; else its runtime could not be asked."""
        is_known = job.state.is_end or job.id in self.between
        return is_known or job.runtime in self.answers

    def usage(self, job: JobRecord) -> Mapping[str, object] | None:
        """The newest row of its metrics, while it runs and its runtime says so."""
        answer = self.answers.get(job.runtime)
        row = (
            answer.rows.get(job.id, {}).get("metrics") if answer and not job.state.is_end else None
        )
        return row if isinstance(row, Mapping) else None

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
    attempts: JobAttempts
    hand_overs: HandOvers
    prices: Prices = field(default_factory=Prices)

    def follow(self, job: JobRecord, progress: Progress, *, wait: bool) -> Iterator[bytes]:
        """The job's log from its first byte on, from here and from its runtimes."""
        return bytes_of(self.attempts.read(job, progress, wait=wait))

    def pieces(
        self,
        job: JobRecord,
        progress: Progress,
        *,
        wait: bool,
        begin: Begin,
        attempt: int | None = None,
    ) -> Iterator[LogPiece]:
        """The log as `follow` has it, or that of one attempt alone; or from `begin` of the newest on."""
        if attempt is not None:
            return self.attempts.one(job, attempt, progress)
        offset = self._offset_of(job, begin) if begin else None
        return self.attempts.read(job, progress, wait=wait, offset=offset)

    def _offset_of(self, job: JobRecord, begin: Begin) -> int:
        """The byte of its newest attempt's log where that is."""
        if self.hand_overs.is_between(job):
            return self.jobs.begin_of(job.id, job.attempt, begin)
        return self.logs.offset_of(job, begin)

    def metrics(self, job: JobRecord, begin: Begin) -> Sequence[Mapping[str, object]]:
        """What it took of its machine, oldest first; `tail` counts rows."""
        rows = parse_rows(self.logs.record_lines(job, jobdir.METRICS))
        if begin.since_s is not None:
            since = datetime.now(UTC).timestamp() - begin.since_s
            rows = [row for row in rows if time_of(row) >= since]
        return rows if begin.tail is None else rows[max(len(rows) - begin.tail, 0) :]

    def standing(self, job: JobRecord) -> Standing:
        """The job as its runtime has it; of one that ended, or whose machine is gone, as we do."""
        if job.state.is_end or self.hand_overs.is_between(job):
            size = job.log_bytes
            here = self.jobs.log_size(job.id, job.attempt)
            return Standing(job, here if size is None else size, is_end=job.state.is_end)
        with closing(self.logs.agent(job.runtime)) as agent:
            answer, _ = agent.request("job.status", {"id": job.id})
        return _standing(job, answer.get("status"))

    def in_contact(self, job: JobRecord) -> bool:
        """Whether its runtime is connected now, as far as the keeper can tell; asks nobody else."""
        try:
            runtime = self.runtimes.load(job.runtime)
            keeper = self.keepers.find(runtime) if runtime is not None else None
            return keeper is not None and keeper.link()["state"] == "ready"
        except ColabdevError:
            return False

    def attach(self, standing: Standing, progress: Progress) -> Iterator[bytes]:
        """The last lines of the log, then what comes, to the end; the record says then how it ended."""
        log = self.attempts.read(standing.job, progress, wait=True, offset=0)
        return last_lines(bytes_of(log), standing.log_bytes)

    def input(self, job: JobRecord, progress: Progress) -> JobInput:
        """A way for what is typed here to the job."""
        return JobInput(self.logs, job, progress)

    def find(self, word: str | None, progress: Progress, *, alone: bool = False) -> JobRecord:
        """The job that `word` means, by default the newest; a bare name means the one that runs, else
        the newest. With `alone` UsageError when several of the name run. Runtimes are only asked for
        a job that is not known here, or when what is known here may be old."""
        listing = self._known()
        named = choose_by_name(word or "", listing.jobs)
        if len(named) > 1 or not (
            listing.jobs
            if word is None
            else jobdir.matching(word, [job.id for job in listing.jobs])
        ):
            listing = self.ps(progress)
            named = choose_by_name(word or "", listing.jobs)
        if word is None:
            for unreadable in listing.unreadable.values():
                raise unreadable
            if not listing.jobs:
                raise JobNotFound("no job is known here", hint="colabdev run SCRIPT starts one")
            return listing.jobs[0]
        if named and not listing.unreadable and not (alone and len(named) > 1):
            return named[0]
        chosen = choose_job_id(
            word, [*listing.unreadable, *(job.id for job in named or listing.jobs)]
        )
        if chosen in listing.unreadable:
            raise listing.unreadable[chosen]
        return next(job for job in listing.jobs if job.id == chosen)

    def ps(self, progress: Progress) -> JobListing:
        """Every job known here and on the runtimes that are up, as it stands now."""
        unasked: list[str] = []
        unreached: list[str] = []
        answers: dict[str, JobsOnRuntime] = {}
        outlooks: dict[str, Outlook] = {}
        for name in self.runtimes.names():
            try:
                runtime = self.runtimes.load(name)
                if runtime is not None and runtime.phase is Phase.UP:
                    answers[name] = self._list(runtime)
                    outlooks |= self._outlooks(runtime, answers[name])
                    self._write_down(runtime, answers[name])
            except (StateUnreadable, RuntimeLost):
                continue  # Named by `_known`; or known to be gone now, and its jobs with it.
            except ColabdevError as exc:
                doing = "write down" if name in answers else "ask"
                unreached += [] if name in answers else [name]
                unasked.append(f"cannot {doing} how the jobs of {name!r} stand: {exc.message}")
        for name, answer in answers.items():
            for job_id, reason in answer.problems.items():
                unasked.append(f"{name!r} cannot say how {job_id} stands: {reason}")
        known = self._known()
        # As they were told, also when that could not be written down.
        told = {job_id: row for answer in answers.values() for job_id, row in answer.rows.items()}
        jobs = tuple(_as_told(job, told.get(job.id)) for job in known.jobs)
        return replace(
            known,
            jobs=jobs,
            unasked=tuple(unasked),
            unreached=tuple(unreached),
            answers=answers,
            outlooks=outlooks,
        )

    def look(self, job: JobRecord) -> JobRecord:
        """The job as its runtime has it now; one that has ended as it is known here."""
        return job if job.state.is_end else self._ask_about(job, "job.status")

    def stop(
        self, job: JobRecord, *, grace_s: float, signal: str = jobdir.DEFAULT_SIGNAL
    ) -> JobRecord:
        """Stop the job, by the signal and after the grace by KILL, and say how it stands then. One that
        has ended stays as it is; one that waits for another machine does not go on."""
        might_continue = job.continues is not None
        if might_continue:
            job = end_consent(self.jobs, self.runtimes, job)
        if job.state.is_end:
            return job
        try:
            return self._ask_about(job, "job.stop", grace_s=grace_s, signal=signal)
        except RuntimeLost:
            if not might_continue:
                raise
            # Nobody knew yet that its machine had gone: so it would have gone on.
            stopped = self.jobs.update(job.id, lambda known: replace(known, state=JobState.STOPPED))
            return stopped or job

    def signal(self, job: JobRecord, signal: str) -> None:
        """Send its command the signal, named without SIG; one that has ended gets none."""
        with closing(self.logs.agent(job.runtime)) as agent:
            agent.request("job.signal", {"id": job.id, "signal": signal})

    def _ask_about(self, job: JobRecord, request: str, **arguments: object) -> JobRecord:
        with closing(self.logs.agent(job.runtime)) as agent:
            answer, _ = agent.request(request, {"id": job.id, **arguments})
        job = told_by_runtime(job, answer.get("status"))
        write_standing(self.jobs, job)
        return job

    def _list(self, runtime: RuntimeRecord) -> JobsOnRuntime:
        """What the runtime says of its jobs; RuntimeLost, and written down, when it is gone."""
        try:
            keeper = self.keepers.ensure(runtime.name)
            keeper.wait_ready(LIST_TIMEOUT_S)
            with closing(keeper.agent()) as agent:
                listed, _ = agent.request("job.list")
        except RuntimeLost:
            note_lost(self.runtimes, runtime)
            raise
        return parse_job_list(listed)

    def _outlooks(self, runtime: RuntimeRecord, there: JobsOnRuntime) -> Mapping[str, Outlook]:
        bounds, now = bounds_of(runtime, self.prices), datetime.now(UTC)
        found = {
            job_id: outlook_of(row, bounds, now, self.hand_overs.left(job_id))
            for job_id, row in there.rows.items()
        }
        return {job_id: outlook for job_id, outlook in found.items() if outlook is not None}

    def _write_down(self, runtime: RuntimeRecord, there: JobsOnRuntime) -> None:
        ids, known = set(self.jobs.ids()), self._known()
        for job in known.jobs:
            if (job.runtime, job.request_id) == (runtime.name, runtime.request_id):
                if job.id in known.between:
                    continue  # It is about to be started there.
                now = _now(job, there)
                if now != job:
                    write_standing(self.jobs, now)
        for job_id in there.rows.keys() - ids:
            with suppress(ProtocolError):
                self.jobs.create(found_on_runtime(there.rows[job_id], runtime))

    def _known(self) -> JobListing:
        jobs: list[JobRecord] = []
        unreadable: dict[str, StateUnreadable] = {}
        between: set[str] = set()
        runtimes, broken = self._records()
        for job_id in self.jobs.ids():
            try:
                job = self.jobs.load(job_id)
            except StateUnreadable as exc:
                unreadable[job_id] = exc
                continue
            if job is not None:
                # What nobody can read says nothing of its jobs.
                if job.runtime in broken:
                    pass
                elif self.hand_overs.is_between(job):
                    between.add(job.id)
                    job = replace(job, state=JobState.STARTING)
                else:
                    job = as_it_stands(job, runtimes.get(job.runtime))
                jobs.append(job)
        jobs.sort(key=lambda job: (job.created, job.id), reverse=True)
        return JobListing(
            tuple(jobs), unreadable, tuple(broken.values()), between=frozenset(between)
        )

    def _records(self) -> tuple[Mapping[str, RuntimeRecord], Mapping[str, StateUnreadable]]:
        """The runtimes by their names, and those whose state cannot be read."""
        runtimes: dict[str, RuntimeRecord] = {}
        broken: dict[str, StateUnreadable] = {}
        for name in self.runtimes.names():
            try:
                runtime = self.runtimes.load(name)
            except StateUnreadable as exc:
                broken[name] = exc
                continue
            if runtime is not None:
                runtimes[name] = runtime
        return runtimes, broken


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


def _as_told(job: JobRecord, row: Mapping[str, object] | None) -> JobRecord:
    try:
        return told_by_runtime(job, row) if row is not None else job
    except ProtocolError:
        return job  # That it makes no sense was said when it was to be written down.


def _now(job: JobRecord, there: JobsOnRuntime) -> JobRecord:
    """The job in view of what its runtime says."""
    if job.id in there.rows:
        return told_by_runtime(job, there.rows[job.id])
    return job if job.id in there.problems else not_on_runtime(job, datetime.now(UTC))
