"""Starting jobs: once each, from the files that stand here."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from colabdev.agent import jobdir, manifest
from colabdev.agent.changes import DELETE
from colabdev.config.requirements import Requirements
from colabdev.config.scripts import Program
from colabdev.core.accelerators import complain_of_gpu
from colabdev.core.job_records import parse_job_list
from colabdev.core.parting import lease_of
from colabdev.core.reconcile import Action
from colabdev.core.sizes import format_size
from colabdev.core.workdirs import usable_machine, workdir_of
from colabdev.crash_points import crash_point
from colabdev.errors import ColabdevError, ConflictsLeft, StaleTree
from colabdev.models import JobRecord, RuntimeRecord
from colabdev.models.recovery import Consent
from colabdev.ports import JobStore, Progress
from colabdev.ports.recovery import RecoveryStore
from colabdev.services.job_attempts import JobAttempts
from colabdev.services.job_logs import JobLogs, Starting
from colabdev.services.job_order import After, still_to_come
from colabdev.services.job_orders import may_start_again, order_of
from colabdev.services.log_reading import bytes_of
from colabdev.services.sync import Expected
from colabdev.services.sync_report import SyncReport

MAX_SYNCS = 3
_NAMED_FILES = 3


@dataclass(frozen=True, slots=True)
class CheckpointWish:
    """What the project says of the checkpoints of its jobs."""

    dir: str
    """A pattern, from the work dir."""
    keep: int
    stores: Sequence[str]
    accept: str
    api_url: str
    """Where the Drive API is."""
    unattended: bool = False
    """The runtime may renew its access to Drive by itself."""
    ask: str | None = None
    """How a job is asked to save: a signal without SIG, or `file:PATH`; None: it cannot be asked."""
    resume: str | None = None
    """How the script is told of one that it is to go on from: `--resume {path}`."""

    @property
    def needs_copy(self) -> bool:
        """Only with a copy on a computer they are safe: no store of these can prove enough by itself."""
        alone = [manifest.BEST[store] for store in self.stores if store != manifest.PULL]
        return not any(manifest.is_enough(level, self.accept) for level in alone)


@dataclass(frozen=True, slots=True)
class ProgressWish:
    """What the project says of how far its jobs are."""

    file: str | None
    """A pattern, from the work dir, of files of JSON lines with `step`."""
    steps: int | None
    """The last step."""

    def to_json(self) -> Mapping[str, object]:
        """As a job's spec has it."""
        return {"file": self.file, "steps": self.steps}


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
    timeout_s: float | None = None
    """How long its command may run."""
    after: Sequence[After] = ()
    gives_back: bool = False
    """When it has ended its runtime is given back."""
    gpu: tuple[str, ...] = ()
    """What the project asks for; another one is said before the job starts."""
    requirements: Requirements | None = None
    keeps_environment: bool = True
    """What is installed for it is kept on Drive, and taken from there."""
    env_files: Sequence[str] = ()
    """Those that lie in the project, by their paths there."""
    checkpoints: CheckpointWish | None = None
    """Where it writes them, and where they are to go; None for nowhere."""
    max_units: float | None = None
    """What the project lets unattended work cost."""
    progress: ProgressWish | None = None
    continues: Consent | None = None
    """That it may go on elsewhere when its machine dies; None: nobody agreed to that."""
    secret_names: frozenset[str] = frozenset()
    """Those of its variables that must stand in no file, whatever their names look like."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarter:
    """Starts jobs, and follows them to their end for whoever waits."""

    choose: Callable[[str | None, str | None], RuntimeRecord]
    jobs: JobStore
    logs: JobLogs
    attempts: JobAttempts
    code: Code
    plans: RecoveryStore

    def prepare(self, request: RunRequest, progress: Progress) -> Start:
        """Choose the runtime and write the job down. Nothing is sent or started yet."""
        runtime = self.choose(request.runtime, request.project_path)
        machine = usable_machine(runtime)
        if complaint := complain_of_gpu(request.gpu, machine.accelerator):
            progress(complaint)
        after = still_to_come(request.after, runtime)
        expect = self._expect(request, runtime, progress)
        job = self._write_down(request, runtime)
        spec: dict[str, object] = {
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
            "timeout_s": request.timeout_s,
            "after": [{"id": one.job.id, "ok": one.ok} for one in after],
            "requirements": request.requirements and request.requirements.to_json(),
            "environment": _environment(request, machine.drive_dir),
            "created": job.created.timestamp(),
            "checkpoints": self._checkpoints(request, runtime),
            "progress": request.progress and request.progress.to_json(),
        }
        if after:
            progress(f"it waits for {', '.join(one.job.id for one in after)}")
        arguments = {"spec": spec, "env": dict(request.env), "expect": expect}
        if job.gives_back:
            arguments["lease"] = lease_of(runtime)
        if may_start_again(request, runtime):
            # Before it starts: what runs must be known to those who are to go on with it, also when
            # nobody agrees to that until its machine has died.
            begun = {**spec, "tree": expect.get("tree")}
            self.plans.save_order(job.id, order_of(request, runtime, begun))
        return Start(job, runtime, Starting(arguments))

    def _checkpoints(
        self, request: RunRequest, runtime: RuntimeRecord
    ) -> Mapping[str, object] | None:
        wish, machine = request.checkpoints, usable_machine(runtime)
        if wish is None or request.project_name is None:
            return None
        return {
            "dirs": [wish.dir],
            "keep": wish.keep,
            "stores": list(wish.stores),
            "accept": wish.accept,
            "project": request.project_name,
            "drive_dir": machine.drive_dir,
            "api_url": wish.api_url,
            "unattended": wish.unattended,
            "ask": wish.ask,
        }

    def _expect(
        self, request: RunRequest, runtime: RuntimeRecord, progress: Progress
    ) -> Mapping[str, object]:
        """What the work dir must be for the job to be started in it."""
        if request.project_path is None:
            return {}
        if not request.sync:
            return {"marker": dict(self.code.marker())}
        expected = self.code.expected(runtime)
        for path, word in _needed(request):
            _check_is_sent(path, word, expected)
        for path in filter(expected.holds, request.env_files):
            progress(f"{path} goes there as a file, too; a line in .colabdevignore keeps it here")
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
                    log = self.attempts.read(start.job, progress, wait=True, start=starting)
                    yield from bytes_of(log)
                    return

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
                raise ConflictsLeft(
                    f"cannot run it: files were edited here and on the runtime: {named}{more}",
                    hint="colabdev sync --prefer local takes yours, --prefer remote the others; "
                    "--no-sync runs what is there",
                )
            for sentence in _moved(synced):
                progress(sentence)
            expect = self.code.expected(start.runtime).with_tree(synced.sent_tree).arguments
            starting.arguments = {**starting.arguments, "expect": expect}
            if (order := self.plans.order(start.job.id)) is not None:
                self.plans.save_order(start.job.id, order.with_tree(synced.sent_tree))
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
                gives_back=request.gives_back and runtime.can_leave,
                continues=request.continues if request.checkpoints else None,
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


def _environment(request: RunRequest, drive_dir: str | None) -> Mapping[str, object] | None:
    """Where what is installed for the job is kept; None for nowhere."""
    if request.requirements is None or not request.keeps_environment or drive_dir is None:
        return None
    return {"drive_dir": drive_dir}


def _needed(request: RunRequest) -> Iterator[tuple[str, str]]:
    """The files of the project that the runtime must have, and how they were typed."""
    if request.program.kind in jobdir.FILE_KINDS:
        yield request.program.argv[0], request.program.typed[0]
    if request.requirements is not None and request.requirements.path:
        yield request.requirements.path, request.requirements.name


def _check_is_sent(path: str, word: str, expected: Expected) -> None:
    """Else the runtime would say no more than that it has no such file, or use an older one."""
    if not expected.holds(path):
        reason = dict(expected.problems).get(path, "it is ignored or excluded")
        raise ColabdevError(
            f"cannot use {word!r}: sync does not send it: {reason}",
            hint="mend that, .gitignore, .colabdevignore or [sync] in colabdev.toml; "
            "--no-sync uses what the runtime has",
        )


def _moved(synced: SyncReport) -> Iterator[str]:
    """What the sync did, for people; a deletion here is what somebody deleted there."""
    if synced.sent:
        yield f"sent {_names(synced.sent)}, {format_size(synced.sent_bytes)}"
    if synced.received:
        yield f"brought home what was edited on the runtime: {_names(synced.received)}"
    for here, where in ((False, "there"), (True, "here")):
        deleted = [a for a in synced.actions if a.change.op == DELETE and a.here == here]
        if deleted:
            yield f"deleted {where}: {_names(deleted)}"


def _names(actions: Sequence[Action]) -> str:
    names = ", ".join(action.path for action in actions[:_NAMED_FILES])
    more = len(actions) - _NAMED_FILES
    return f"{names} and {more} more" if more > 0 else names


def _other_files(synced: SyncReport) -> ColabdevError:
    paths = sorted(synced.undone or (action.path for action in synced.actions))
    names = ", ".join(repr(path) for path in paths[:_NAMED_FILES])
    more = f" and {len(paths) - _NAMED_FILES} more" if len(paths) > _NAMED_FILES else ""
    return ColabdevError(
        f"cannot run it: the runtime has other files than this computer after {MAX_SYNCS} syncs"
        + (f": {names}{more}" if names else ""),
        hint="colabdev sync says why; --no-sync runs what is on the runtime",
    )
