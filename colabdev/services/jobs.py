"""Running jobs, listing them, reading their logs, stopping them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from colabdev.agent import jobdir
from colabdev.config.scripts import Program
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
from colabdev.core.workdirs import usable_machine, workdir_of
from colabdev.crash_points import crash_point
from colabdev.errors import (
    ColabdevError,
    JobNotFound,
    ProtocolError,
    StaleTree,
    StateUnreadable,
)
from colabdev.models import JobRecord, Phase, RuntimeRecord
from colabdev.ports import JobStore, Keepers, Progress, RuntimeStore
from colabdev.services.job_input import JobInput
from colabdev.services.job_logs import JobLogs, Starting
from colabdev.services.sync import Expected
from colabdev.services.sync_report import SyncReport

LIST_TIMEOUT_S = 3.0
MAX_SYNCS = 3
RECENT_JOBS = 20
_NAMED_FILES = 3


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
    window: tuple[int, int] | None = None
    """Columns and rows of the terminal that the job gets; None for none."""
    stdin: str = jobdir.NO_INPUT
    """One of `jobdir.STDINS`."""


class Code(Protocol):
    """The project's files, which a job is started from."""

    def expected(self, runtime: RuntimeRecord) -> Expected:
        """What the work dir holds when nothing has to be synced."""

    def marker(self) -> Mapping[str, str]:
        """What says of a work dir that it is the project's."""

    def bring(self, runtime: RuntimeRecord, progress: Progress) -> SyncReport:
        """Bring the work dir in step; raises what keeps it from that."""


@dataclass(frozen=True, slots=True)
class Start:
    """A job that is about to be started, and what its runtime must be told for it."""

    job: JobRecord
    runtime: RuntimeRecord
    starting: Starting


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
    choose: Callable[[str | None, str | None], RuntimeRecord]
    keepers: Keepers
    jobs: JobStore
    logs: JobLogs
    code: Code

    def prepare(self, request: RunRequest, progress: Progress) -> Start:
        """Choose the runtime and write the job down. Nothing is sent or started yet."""
        runtime = self.choose(request.runtime, request.project_path)
        usable_machine(runtime)
        expect = self._expect(request, runtime, progress)
        job = self._write_down(request, runtime)
        spec = {
            "schema": jobdir.SCHEMA,
            "id": job.id,
            "name": job.name,
            "attempt": job.attempt,
            "kind": request.program.kind,
            "argv": list(request.program.argv),
            "typed": list(request.program.typed),
            "runtime": runtime.request_id,
            "workdir": workdir_of(runtime, request.project_path, request.project_name),
            "in_place": request.in_place,
            "pty": request.window is not None,
            "window": list(request.window or ()),
            "stdin": request.stdin,
            "created": job.created.timestamp(),
        }
        arguments = {"spec": spec, "env": dict(request.env), "expect": expect}
        return Start(job, runtime, Starting(arguments))

    def _expect(
        self, request: RunRequest, runtime: RuntimeRecord, progress: Progress
    ) -> Mapping[str, object]:
        """What the work dir must be for the job to be started in it."""
        if request.project_path is None:
            return {}
        if not request.sync:
            return {"marker": dict(self.code.marker())}
        expected = self.code.expected(runtime)
        _check_is_sent(request.program, expected)
        if expected.problems:
            count = len(expected.problems)
            files = "1 file is" if count == 1 else f"{count} files are"
            progress(f"{files} not sent; colabdev sync names them")
        return expected.arguments

    def start(self, start: Start, progress: Progress) -> None:
        """Start the job and leave it alone."""
        with self._forgetting_if_not_started(start):
            for starting in self._tries(start, progress):
                with suppress(StaleTree):
                    self.logs.start(start.job, starting, progress)
                    return

    def run(self, start: Start, progress: Progress) -> Iterator[bytes]:
        """Start the job and follow its log to the end; its record says then how it ended.

        What did not change is started in one round trip; only when the runtime says that the files
        there are not ours, they are synced first.
        """
        with self._forgetting_if_not_started(start):
            for starting in self._tries(start, progress):
                with suppress(StaleTree):
                    yield from self.logs.read(start.job, progress, wait=True, start=starting)
                    return

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

    def look(self, job: JobRecord) -> JobRecord:
        """The job as its runtime has it now; one that has ended as it is known here."""
        return job if job.state.is_end else self._ask_about(job, "job.status")

    def stop(
        self, job: JobRecord, *, grace_s: float, signal: str = jobdir.DEFAULT_SIGNAL
    ) -> JobRecord:
        """Stop the job, by the signal and after the grace by KILL, and say how it stands then. One that
        has ended stays as it is."""
        if job.state.is_end:
            return job
        return self._ask_about(job, "job.stop", grace_s=grace_s, signal=signal)

    def signal(self, job: JobRecord, signal: str) -> None:
        """Send its command the signal, named without SIG; one that has ended gets none."""
        with closing(self.logs.agent(job.runtime)) as agent:
            agent.request("job.signal", {"id": job.id, "signal": signal})

    def _ask_about(self, job: JobRecord, request: str, **arguments: object) -> JobRecord:
        with closing(self.logs.agent(job.runtime)) as agent:
            answer, _ = agent.request(request, {"id": job.id, **arguments})
        job = told_by_runtime(job, answer.get("status"))
        self.jobs.save(job)
        return job

    def _tries(self, start: Start, progress: Progress) -> Iterator[Starting]:
        """What to ask for: the start, and again after each sync while the files there are others.

        It never starts other files than those here: only the runtime can tell, as it starts.
        """
        starting = start.starting
        yield starting
        for _ in range(MAX_SYNCS):
            synced = self.code.bring(start.runtime, progress)
            if synced.conflicts:
                named = ", ".join(conflict.path for conflict in synced.conflicts[:3])
                more = ", …" if len(synced.conflicts) > 3 else ""
                raise ColabdevError(
                    f"cannot run it: files were edited here and on the runtime: {named}{more}",
                    hint="colabdev sync --prefer local takes yours, --prefer remote the others; "
                    "--no-sync runs what is there",
                )
            if synced.received:
                progress(_brought_home(synced))
            expect = self.code.expected(start.runtime).with_tree(synced.sent_tree).arguments
            starting.arguments = {**starting.arguments, "expect": expect}
            yield starting
        raise _other_files(synced)

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
    def _forgetting_if_not_started(self, start: Start) -> Iterator[None]:
        """A job that was surely not started was never one."""
        try:
            yield
        except (ColabdevError, KeyboardInterrupt):
            starting = start.starting
            if starting.refused and not starting.unanswered:
                self._forget_unless_there(start.job)
            elif not starting.started and not starting.unanswered:
                self.jobs.delete(start.job.id)
            raise

    def _forget_unless_there(self, job: JobRecord) -> None:
        """A start that was refused may have come as far as to leave its job on the runtime."""
        with suppress(ColabdevError), closing(self.logs.agent(job.runtime)) as agent:
            listed, _ = agent.request("job.list")
            if job.id not in parse_job_list(listed):
                self.jobs.delete(job.id)

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


def _check_is_sent(program: Program, expected: Expected) -> None:
    """Else the runtime would say no more than that it has no such file, or start an older one."""
    script = program.argv[0]
    if program.kind in (jobdir.PYTHON, jobdir.SHELL) and not expected.holds(script):
        reason = dict(expected.problems).get(script, "it is ignored or excluded")
        raise ColabdevError(
            f"cannot run {program.typed[0]!r}: sync does not send it: {reason}",
            hint="mend that, .gitignore, .colabdevignore or [sync] in colabdev.toml; "
            "--no-sync runs what the runtime has",
        )


def _brought_home(synced: SyncReport) -> str:
    names = ", ".join(action.path for action in synced.received[:_NAMED_FILES])
    more = ", …" if len(synced.received) > _NAMED_FILES else ""
    return f"brought home what was edited on the runtime: {names}{more}"


def _other_files(synced: SyncReport) -> ColabdevError:
    paths = sorted(synced.undone or (action.path for action in synced.actions))
    names = ", ".join(repr(path) for path in paths[:_NAMED_FILES])
    more = f" and {len(paths) - _NAMED_FILES} more" if len(paths) > _NAMED_FILES else ""
    return ColabdevError(
        f"cannot run it: the runtime has other files than this computer after {MAX_SYNCS} syncs"
        + (f": {names}{more}" if names else ""),
        hint="colabdev sync says why; --no-sync runs what is on the runtime",
    )
