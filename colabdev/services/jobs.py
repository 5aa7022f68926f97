"""Running jobs, listing them, reading their logs, stopping them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from colabdev.agent import jobdir
from colabdev.config.scripts import Program
from colabdev.core.job_records import (
    as_it_stands,
    choose_job_id,
    found_on_runtime,
    not_on_runtime,
    told_by_runtime,
)
from colabdev.crash_points import crash_point
from colabdev.errors import (
    ColabdevError,
    JobNotFound,
    ProtocolError,
    RuntimeLost,
    RuntimeUnreachable,
    StaleTree,
    StateUnreadable,
    runtime_lost,
)
from colabdev.models import JobRecord, Phase, RuntimeRecord
from colabdev.ports import JobStore, Keepers, Progress, RuntimeStore
from colabdev.services.job_logs import JobLogs
from colabdev.services.sync import Expected, SyncReport

LIST_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What `run` was asked for, checked for all that can be checked on this computer."""

    program: Program
    runtime: str | None = None
    project_path: str | None = None
    project_name: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    in_place: bool = False
    sync: bool = True


class Code(Protocol):
    """The project's files, which a job is started from."""

    def expected(self) -> Expected:
        """What the work dir holds when nothing has to be synced."""

    def bring(self, runtime: RuntimeRecord, progress: Progress) -> SyncReport:
        """Bring the work dir in step; raises what keeps it from that."""


@dataclass(frozen=True, slots=True)
class Start:
    """A job that is about to be started, and what its runtime must be told for it."""

    job: JobRecord
    runtime: RuntimeRecord
    arguments: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class JobListing:
    """The jobs known here, newest first; the records that could not be read; what could not be asked."""

    jobs: tuple[JobRecord, ...]
    unreadable: tuple[StateUnreadable, ...] = ()
    unasked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The life of jobs, as seen from this computer."""

    runtimes: RuntimeStore
    choose: Callable[[str | None, str | None], RuntimeRecord]
    keepers: Keepers
    jobs: JobStore
    logs: JobLogs
    code: Code

    def prepare(self, request: RunRequest, progress: Progress) -> Start:
        """Choose the runtime and write the job down. Nothing is sent or started yet."""
        runtime = self.choose(request.runtime, request.project_path)
        if runtime.machine is None:
            raise ColabdevError(
                f"the runtime {runtime.name!r} was never started to the end",
                hint=f"colabdev connect {runtime.name}",
            )
        if runtime.phase is Phase.LOST:
            raise runtime_lost(runtime.name)
        expected = None
        if request.sync and request.project_path is not None:
            expected = self.code.expected()
            if expected.problems:
                progress(f"{len(expected.problems)} files are not sent; colabdev sync names them")
        job = self._write_down(request, runtime)
        spec = {
            "schema": jobdir.SCHEMA,
            "id": job.id,
            "name": job.name,
            "attempt": job.attempt,
            "kind": request.program.kind,
            "argv": list(request.program.argv),
            "typed": list(request.program.typed),
            "workdir": _workdir(request, runtime),
            "in_place": request.in_place,
            "created": job.created.timestamp(),
        }
        arguments: dict[str, object] = {"spec": spec, "env": dict(request.env)}
        if expected is not None:
            arguments["expect"] = {"tree": expected.tree, "marker": dict(expected.marker)}
        return Start(job, runtime, arguments)

    def start(self, start: Start, progress: Progress) -> None:
        """Start the job and leave it alone."""
        with self._forgetting_if_refused(start.job):
            try:
                self.logs.start(start.job, start.arguments, progress)
            except StaleTree:
                self.logs.start(start.job, self._with_code(start, progress), progress)

    def run(self, start: Start, progress: Progress) -> Iterator[bytes]:
        """Start the job and follow its log to the end; its record says then how it ended.

        What did not change is started in one round trip; only when the runtime says that the files
        there are not ours, they are synced first.
        """
        with self._forgetting_if_refused(start.job):
            try:
                yield from self.logs.read(start.job, progress, wait=True, start=start.arguments)
            except StaleTree:
                arguments = self._with_code(start, progress)
                yield from self.logs.read(start.job, progress, wait=True, start=arguments)

    def follow(self, job: JobRecord, progress: Progress, *, wait: bool) -> Iterator[bytes]:
        """The job's log from its first byte, from here and from its runtime."""
        return self.logs.read(job, progress, wait=wait)

    def find(self, word: str | None, progress: Progress) -> JobRecord:
        """The job that `word` means, by default the newest. Runtimes are only asked for a job that
        is not known here."""
        listing = self._known()
        if not listing.jobs or (
            word and not jobdir.matching(word, [job.id for job in listing.jobs])
        ):
            listing = self.ps(progress)
        for unreadable in listing.unreadable:
            if word is None or word in unreadable.message:
                raise unreadable
        if word is None:
            if not listing.jobs:
                raise JobNotFound("no job is known here", hint="colabdev run SCRIPT starts one")
            return listing.jobs[0]
        chosen = choose_job_id(word, [job.id for job in listing.jobs])
        return next(job for job in listing.jobs if job.id == chosen)

    def ps(self, progress: Progress) -> JobListing:
        """Every job known here and on the runtimes that are up, as it stands now."""
        unasked = []
        for name in self.runtimes.names():
            try:
                runtime = self.runtimes.load(name)
                if runtime is not None and runtime.phase is Phase.UP:
                    self._ask(runtime)
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
        job = _told(job, answer.get("status"))
        self.jobs.save(job)
        return job

    def _with_code(self, start: Start, progress: Progress) -> Mapping[str, object]:
        """Sync, and what the start is to be asked for then."""
        synced = self.code.bring(start.runtime, progress)
        if synced.conflicts:
            raise ColabdevError(
                f"cannot run it: {len(synced.conflicts)} of its files were changed on both sides",
                hint="colabdev sync names them; --no-sync runs what is on the runtime",
            )
        return {key: value for key, value in start.arguments.items() if key != "expect"}

    def _write_down(self, request: RunRequest, runtime: RuntimeRecord) -> JobRecord:
        while True:
            created = datetime.now(UTC)
            day = created.strftime("%y%m%d")
            job = JobRecord(
                id=jobdir.job_id(request.program.name, day, secrets.token_bytes(4)),
                name=request.program.name,
                runtime=runtime.name,
                request_id=runtime.request_id,
                argv=request.program.typed,
                created=created,
            )
            if self.jobs.create(job):
                crash_point("run.recorded")
                return job

    @contextmanager
    def _forgetting_if_refused(self, job: JobRecord) -> Iterator[None]:
        """A job that the runtime surely does not have was never one."""
        try:
            yield
        except (RuntimeLost, RuntimeUnreachable):
            raise  # Nobody can be asked.
        except ColabdevError:
            with suppress(ColabdevError), closing(self.logs.agent(job.runtime)) as agent:
                listed, _ = agent.request("job.list")
                if job.id not in {row["id"] for row in _rows(listed)}:
                    self.jobs.delete(job.id)
            raise

    def _ask(self, runtime: RuntimeRecord) -> None:
        """Write down what the runtime says of its jobs."""
        keeper = self.keepers.ensure(runtime.name)
        keeper.wait_ready(LIST_TIMEOUT_S)
        with closing(keeper.agent()) as agent:
            listed, _ = agent.request("job.list")
        rows = {str(row["id"]): row for row in _rows(listed)}
        for job in self._known().jobs:
            if (job.runtime, job.request_id) == (runtime.name, runtime.request_id):
                row = rows.pop(job.id, None)
                now = not_on_runtime(job, datetime.now(UTC)) if row is None else _told(job, row)
                if now != job:
                    self.jobs.save(now)
        known = set(self.jobs.ids())
        for job_id in rows.keys() - known:
            with suppress(ValueError, TypeError):
                self.jobs.create(found_on_runtime(rows[job_id], runtime))

    def _known(self) -> JobListing:
        jobs: list[JobRecord] = []
        unreadable: list[StateUnreadable] = []
        for job_id in self.jobs.ids():
            try:
                job = self.jobs.load(job_id)
                if job is not None:
                    jobs.append(as_it_stands(job, self.runtimes.load(job.runtime)))
            except StateUnreadable as exc:
                unreadable.append(exc)
        jobs.sort(key=lambda job: (job.created, job.id), reverse=True)
        return JobListing(tuple(jobs), tuple(unreadable))


def _workdir(request: RunRequest, runtime: RuntimeRecord) -> str:
    assert runtime.machine is not None, "checked before"
    for link in runtime.projects:
        if link.path == request.project_path:
            return link.workdir
    if request.project_name is None:
        return runtime.machine.content_dir
    return f"{runtime.machine.content_dir}/{request.project_name}"


def _rows(answer: Mapping[str, object]) -> Sequence[Mapping[str, Any]]:
    rows = answer.get("jobs")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
        raise ProtocolError("cannot understand the runtime's list of jobs")
    return rows


def _told(job: JobRecord, status: object) -> JobRecord:
    try:
        if isinstance(status, dict):
            return told_by_runtime(job, status)
        raise ValueError("no status")
    except (KeyError, TypeError, ValueError) as exc:
        raise ProtocolError(f"cannot understand what the runtime says of {job.id}: {exc}") from exc
