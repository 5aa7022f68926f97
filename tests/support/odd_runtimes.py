"""A runtime that refuses, forgets, hangs up and changes under one's hands, and the services of jobs on
it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from colabdev.adapters.job_store import FileJobStore
from colabdev.adapters.recovery_store import FileRecoveryStore
from colabdev.adapters.store import FileStore
from colabdev.agent import jobdir
from colabdev.config.scripts import Program
from colabdev.models import AgentHello, JobRecord, JobState, RuntimeRecord
from colabdev.ports import ByteStream, RemoteProcess
from colabdev.services.hand_overs import HandOvers
from colabdev.services.job_attempts import JobAttempts
from colabdev.services.job_logs import JobLogs
from colabdev.services.jobs import Jobs
from colabdev.services.recovery_cases import RecoveryCases
from colabdev.services.starts import JobStarter, RunRequest
from colabdev.services.sync import Expected
from colabdev.services.sync_report import SyncReport
from tests.support.records import MOMENT, make_record

Answer = tuple[Mapping[str, object], bytes]
ENDED = {"state": "succeeded", "exit_code": 0, "log_bytes": 3}


@dataclass
class OddRuntime:
    """Keepers, their one keeper and its agents in one; answers are functions of the arguments."""

    answers: dict[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    wire_bytes: int = 0
    hello: AgentHello = AgentHello(1, "3.11", 1)  # noqa: RUF009  It is frozen.

    def find(self, record: RuntimeRecord) -> OddRuntime:
        return self

    def ensure(self, name: str) -> OddRuntime:
        return self

    def stop(self, record: RuntimeRecord) -> None: ...

    def link(self) -> Mapping[str, object]:
        return {"state": "ready"}

    def wait_ready(self, timeout_s: float) -> AgentHello:
        return self.hello

    def agent(self, name: str = "") -> OddRuntime:
        return self

    def open(self, argv: Sequence[str]) -> RemoteProcess:
        raise AssertionError("no process is asked for")

    def open_tcp(self, host: str, port: int) -> ByteStream:
        raise AssertionError("no port is asked for")

    def hold(self, job_id: str, variables: Mapping[str, str]) -> None:
        raise AssertionError("no secret is held")

    def held(self, job_id: str) -> Mapping[str, str] | None:
        raise AssertionError("no secret is held")

    def quit(self) -> None: ...

    def close(self) -> None: ...

    def request(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> Answer:
        self.asked.append((kind, arguments or {}))
        return self.answers[kind](arguments or {}), self.bodies.get(kind, b"")

    def stream(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> Iterator[Answer]:
        self.asked.append((kind, arguments or {}))
        yield from self.answers[kind](arguments or {})

    def ask(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> None:
        raise AssertionError("nothing is asked ahead")

    def answer(self, kind: str) -> Answer:
        raise AssertionError("nothing is asked ahead")

    def send(self, header: Mapping[str, object], body: bytes = b"") -> None:
        raise AssertionError("nothing is sent")

    def upload(self, kind: str, arguments: Mapping[str, object], frames: object) -> Answer:
        raise AssertionError("nothing is sent")


@dataclass
class Files:
    """The project's files; `bring` is a sync."""

    bring_them: Callable[[], SyncReport]
    synced: int = 0

    def expected(self, runtime: RuntimeRecord) -> Expected:
        return Expected({"marker": dict(self.marker()), "tree": "local-0"}, ())

    def marker(self) -> Mapping[str, str]:
        return {"computer": "mine", "project": "/home/me/digits"}

    def bring(self, runtime: RuntimeRecord, progress: object) -> SyncReport:
        self.synced += 1
        return self.bring_them()


@dataclass
class Bench:
    """This computer's side of jobs, on one odd runtime."""

    runtime: OddRuntime
    files: Files
    runtimes: FileStore
    store: FileJobStore
    jobs: Jobs
    starter: JobStarter
    said: list[str] = field(default_factory=list)

    def job(self, name: str, state: str = "running", **more: Any) -> JobRecord:
        job_id = jobdir.job_id(name, "261120", b"abcd")
        job = JobRecord(job_id, name, "box", "request-1", (name,), MOMENT, state=JobState(state))
        job = replace(job, **more)
        assert self.store.create(job)
        return job

    def run(self, **more: Any) -> bytes:
        program = Program(jobdir.PYTHON, "x", ("x.py",), ("x.py",))
        request = RunRequest(program, None, "/home/me/digits", "digits", **more)
        self.start = self.starter.prepare(request, self.said.append)
        return b"".join(self.starter.run(self.start, self.said.append))


def make_bench(root: Path) -> Bench:
    """It, with everything below `root`."""
    runtime, runtimes = OddRuntime(), FileStore(root / "train-state")
    runtimes.save(make_record())
    store = FileJobStore(root / "train-state")
    files = Files(report)
    logs = JobLogs(runtimes=runtimes, keepers=runtime, jobs=store)
    plans = FileRecoveryStore(root / "train-state")
    hand_overs = HandOvers(
        runtimes=runtimes,
        jobs=store,
        keepers=runtime,
        cases=RecoveryCases(runtimes=runtimes, jobs=store, plans=plans),
        told=store,
    )
    attempts = JobAttempts(logs=logs, jobs=store, hand_overs=hand_overs)
    jobs = Jobs(
        runtimes=runtimes,
        keepers=runtime,
        jobs=store,
        logs=logs,
        attempts=attempts,
        hand_overs=hand_overs,
    )
    starter = JobStarter(
        choose=lambda *_: make_record(),
        jobs=store,
        logs=logs,
        attempts=attempts,
        code=files,
        plans=plans,
    )
    runtime.answers["job.list"] = lambda _: {"jobs": [], "problems": []}
    runtime.answers["job.records"] = lambda _: {}
    runtime.bodies["job.records"] = zlib.compress(b'{"status.json": "{}"}')
    return Bench(runtime, files, runtimes, store, jobs, starter)


def report(tree: str = "local-1", undone: tuple[str, ...] = ()) -> SyncReport:
    return SyncReport("box", "/content/digits", "there", sent_tree=tree, undone=undone)
