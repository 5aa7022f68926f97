"""Jobs on runtimes that refuse, forget, hang up and change under one's hands: the services alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.job_store import FileJobStore
from colabdev.adapters.recovery_store import FileRecoveryStore
from colabdev.adapters.store import FileStore
from colabdev.agent import jobdir
from colabdev.cli import render_jobs
from colabdev.config.scripts import Program
from colabdev.errors import (
    ColabdevError,
    ProtocolError,
    RuntimeLost,
    RuntimeUnreachable,
    StaleTree,
    StateNotWritable,
)
from colabdev.models import AgentHello, JobRecord, JobState, RuntimeRecord
from colabdev.ports import ByteStream, RemoteProcess
from colabdev.services.job_logs import JobLogs, Starting
from colabdev.services.jobs import Jobs
from colabdev.services.starts import MAX_SYNCS, JobStarter, RunRequest, Start
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

    def agent(self) -> OddRuntime:
        return self

    def open(self, argv: Sequence[str]) -> RemoteProcess:
        raise AssertionError("no process is asked for")

    def open_tcp(self, host: str, port: int) -> ByteStream:
        raise AssertionError("no port is asked for")

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


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    runtime, runtimes = OddRuntime(), FileStore(tmp_path / "train-state")
    runtimes.save(make_record())
    store = FileJobStore(tmp_path / "train-state")
    files = Files(report)
    logs = JobLogs(runtimes=runtimes, keepers=runtime, jobs=store)
    jobs = Jobs(runtimes=runtimes, keepers=runtime, jobs=store, logs=logs)
    starter = JobStarter(
        choose=lambda *_: make_record(),
        jobs=store,
        logs=logs,
        code=files,
        plans=FileRecoveryStore(tmp_path / "train-state"),
    )
    runtime.answers["job.list"] = lambda _: {"jobs": [], "problems": []}
    runtime.answers["job.records"] = lambda _: {}
    runtime.bodies["job.records"] = zlib.compress(b'{"status.json": "{}"}')
    return Bench(runtime, files, runtimes, store, jobs, starter)


def report(tree: str = "local-1", undone: tuple[str, ...] = ()) -> SyncReport:
    return SyncReport("box", "/content/digits", "there", sent_tree=tree, undone=undone)


def stale(arguments: object) -> Iterator[Answer]:
    raise StaleTree("other files")
    yield


def refuse(arguments: object) -> Iterator[Answer]:
    raise ColabdevError("no room")
    yield


def cut(arguments: object) -> Iterator[Answer]:
    raise RuntimeUnreachable("cut")
    yield


def interrupted(arguments: object = None) -> Any:
    raise KeyboardInterrupt


def whole_log(arguments: Mapping[str, Any]) -> Iterator[Answer]:
    yield {"offset": 0}, b"abc"
    yield {"status": ENDED}, b""


# --- starting --------------------------------------------------------------------------------------


def test_run_never_starts_other_files_than_those_that_were_sent(bench: Bench) -> None:
    bench.runtime.answers["job.start"] = stale
    bench.files.bring_them = lambda: report(undone=("locked.py",))
    with pytest.raises(ColabdevError, match=r"other files .*'locked\.py'") as caught:
        bench.run()
    assert "--no-sync" in caught.value.hint
    assert bench.files.synced == MAX_SYNCS
    trees = [arguments["expect"]["tree"] for kind, arguments in bench.runtime.asked]
    assert trees == ["local-0", *["local-1"] * MAX_SYNCS]
    assert bench.store.ids() == []


def test_run_starts_once_a_sync_brought_the_files(bench: Bench) -> None:
    def start(arguments: Mapping[str, Any]) -> Iterator[Answer]:
        if arguments["expect"]["tree"] != "local-1":
            raise StaleTree("other files")
        yield {"id": arguments["spec"]["id"]}, b""
        yield from whole_log(arguments)

    bench.runtime.answers["job.start"] = start
    assert bench.run() == b"abc"
    assert bench.files.synced == 1
    assert bench.start.starting.started


def test_ctrl_c_during_the_sync_leaves_no_job(bench: Bench) -> None:
    bench.runtime.answers["job.start"] = stale
    bench.files.bring_them = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert (bench.start.starting.started, bench.start.starting.unanswered) == (False, 0)
    assert bench.store.ids() == []


def test_ctrl_c_while_the_start_is_on_the_wire_keeps_the_job(bench: Bench) -> None:
    bench.runtime.answers["job.start"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert (bench.start.starting.started, bench.start.starting.unanswered) == (False, 1)
    assert bench.store.ids() == [bench.start.job.id]


def test_refused_job_is_forgotten_unless_the_runtime_may_have_it(bench: Bench) -> None:
    bench.runtime.answers["job.start"] = refuse
    with pytest.raises(ColabdevError, match="no room"):
        bench.run()
    assert bench.store.ids() == []
    bench.runtime.answers["job.list"] = lambda _: {
        "jobs": [],
        "problems": [{"id": bench.store.ids()[0], "reason": "torn"}],
    }
    with pytest.raises(ColabdevError, match="no room"):
        bench.run()
    assert bench.store.ids() == [bench.start.job.id]


def test_job_that_was_refused_after_a_cut_is_kept(bench: Bench) -> None:
    answers = [refuse, cut]

    def start(arguments: object) -> Iterator[Answer]:
        return answers.pop()(arguments)

    bench.runtime.answers["job.start"] = start
    with pytest.raises(ColabdevError, match="no room"):
        bench.run()
    assert bench.store.ids() == [bench.start.job.id], "the first one may still be at work"


def test_no_sync_says_whose_work_dir_it_means(bench: Bench) -> None:
    bench.runtime.answers["job.start"] = refuse
    with pytest.raises(ColabdevError, match="no room"):
        bench.run(sync=False)
    [(_, arguments)] = [asked for asked in bench.runtime.asked if asked[0] == "job.start"]
    assert arguments["expect"] == {"marker": bench.files.marker()}


# --- asking ----------------------------------------------------------------------------------------


def test_job_that_the_runtime_cannot_read_is_not_lost(bench: Bench) -> None:
    kept, lost = bench.job("kept"), bench.job("lost")
    bench.runtime.answers["job.list"] = lambda _: {
        "jobs": [],
        "problems": [{"id": kept.id, "reason": "status.json is torn"}],
    }
    listing = bench.jobs.ps(bench.said.append)
    states = {job.id: job.state for job in listing.jobs}
    assert states == {kept.id: JobState.RUNNING, lost.id: JobState.LOST}
    assert listing.unasked == (f"'box' cannot say how {kept.id} stands: status.json is torn",)


def test_row_that_makes_no_sense_is_said(bench: Bench) -> None:
    job = bench.job("odd")
    bench.runtime.answers["job.list"] = lambda _: {"jobs": [{"id": job.id}], "problems": []}
    [sentence] = bench.jobs.ps(bench.said.append).unasked
    assert "cannot understand" in sentence
    bench.runtime.answers["job.stop"] = lambda _: {"status": {"started": 1}}
    with pytest.raises(ProtocolError):
        bench.jobs.stop(job, grace_s=1)


def test_unreadable_record_is_in_nobody_elses_way(bench: Bench, tmp_path: Path) -> None:
    train, other = bench.job("train"), bench.job("other")
    (tmp_path / "train-state" / "jobs" / other.id / "job.json").write_text("{")
    assert bench.jobs.find("train", bench.said.append) == train
    with pytest.raises(ColabdevError, match="cannot read"):
        bench.jobs.find("oth", bench.said.append)


# --- logs of machines that go --------------------------------------------------------------------


def test_each_log_comes_home_whatever_the_others_do(bench: Bench) -> None:
    """One that the runtime does not have, one that it cannot send, one that is all right."""
    bench.job("absent")
    broken, good = bench.job("broken"), bench.job("good")
    rows = [{"id": job.id, "state": "running"} for job in (broken, good)]
    bench.runtime.answers["job.list"] = lambda _: {"jobs": rows, "problems": []}
    bench.runtime.answers["job.stop"] = lambda _: {"status": ENDED}
    bench.runtime.answers["job.follow"] = lambda arguments: (
        whole_log(arguments) if arguments["id"] == good.id else refuse(arguments)
    )
    bench.jobs.logs.bring_home(make_record(), bench.said.append)
    assert bench.store.read_log(good.id, 1, 0) == b"abc"
    [complaint] = [said for said in bench.said if said.startswith("cannot")]
    assert complaint == f"cannot bring the end of {broken.id} home: no room"


def test_log_that_finds_no_room_at_home_is_said_to_be_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.job("big")
    rows = [{"id": job.id, "state": "running"}]
    bench.runtime.answers["job.list"] = lambda _: {"jobs": rows, "problems": []}
    bench.runtime.answers["job.stop"] = lambda _: {"status": ENDED}
    bench.runtime.answers["job.follow"] = whole_log

    def full(*_: object) -> None:
        raise StateNotWritable("cannot write: No space left on device")

    monkeypatch.setattr(FileJobStore, "append", full)
    bench.jobs.logs.bring_home(make_record(), bench.said.append)
    assert bench.said[-1] == (
        "cannot write: No space left on device; "
        f"the log of {job.id} is lost with the machine's disk"
    )


@pytest.mark.parametrize("another", [False, True], ids=["down", "connected anew"])
def test_part_of_a_log_whose_machine_is_gone_is_printed_and_said(
    bench: Bench, another: bool
) -> None:
    job = bench.job("ended", "failed", log_bytes=10)
    bench.store.append(job.id, 1, 0, b"abcd")
    bench.runtimes.delete("box")
    if another:
        bench.runtimes.save(replace(make_record(), request_id="another"))
    pieces = bench.jobs.follow(job, bench.said.append, wait=False)
    assert next(pieces) == b"abcd"
    with pytest.raises(RuntimeLost, match="4 of 10 bytes of its log are here; the machine is gone"):
        next(pieces)
    bench.store.append(job.id, 1, 4, b"efghij")
    whole = b"".join(bench.jobs.follow(job, bench.said.append, wait=True))
    assert whole == b"abcdefghij"


@pytest.mark.parametrize("home", [b"", b"abc"], ids=["lost", "brought home"])
def test_follower_of_an_ended_job_ends_when_its_machine_goes(bench: Bench, home: bytes) -> None:
    job = bench.job("ended", "succeeded", log_bytes=3)

    def down(arguments: object) -> Iterator[Answer]:
        bench.store.append(job.id, 1, 0, home)
        bench.runtimes.delete("box")
        yield from cut(arguments)

    bench.runtime.answers["job.follow"] = down
    pieces = bench.jobs.follow(job, bench.said.append, wait=True)
    if home:
        assert b"".join(pieces) == home
    else:
        with pytest.raises(RuntimeLost, match="0 of 3 bytes"):
            list(pieces)


# --- what Ctrl-C says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("starting", "says"),
    [
        (Starting({}), "was not started"),
        (Starting({}, unanswered=1), "may have started; colabdev ps tells"),
        (Starting({}, unanswered=1, started=True), "runs on"),
    ],
)
def test_ctrl_c_says_what_became_of_the_job(
    bench: Bench, starting: Starting, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = bench.job("left")
    render_jobs.left(Start(job, make_record(), starting))
    assert capsys.readouterr().err.splitlines()[1] == f"{job.id} {says}"
