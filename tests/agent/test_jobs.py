"""Jobs as the agent runs them, on the oldest Python it must run on and on ours."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_archive import AgentArchive, build_agent
from colabdev.adapters.agent_client import start_agent
from colabdev.adapters.processes import LocalTransport
from colabdev.agent import jobdir, processes, tree
from colabdev.agent.ledger import Ledger
from colabdev.errors import ColabdevError, StaleTree
from tests.support.agents import Talk
from tests.support.disks import tiny_disk
from tests.support.pythons import oldest_and_ours
from tests.support.waiting import wait_until

PYTHONS = oldest_and_ours()
MARKER = {"computer": "mine", "project": "/home/me/digits"}

ENDINGS = [
    ("exit 0", "succeeded", 0, None),
    ("exit 1", "failed", 1, None),
    ("exit 7", "failed", 7, None),
    ("exit 130", "failed", 130, None),
    ("kill -KILL $$", "failed", None, signal.SIGKILL),
    ("kill -TERM $$", "failed", None, signal.SIGTERM),
    ("kill -SEGV $$", "failed", None, signal.SIGSEGV),
    ("kill -HUP $$", "failed", None, signal.SIGHUP),
    ("kill -PIPE $$", "failed", None, signal.SIGPIPE),
]


@dataclass
class Bench:
    """A home and a work dir of their own, with jobs in them."""

    root: Path
    archive: AgentArchive
    talks: list[Talk] = field(default_factory=list)
    count: int = 0
    salt: bytes = field(default_factory=lambda: os.urandom(2))
    """Makes ids that no other bench has: the agent ends what has them in its environment."""

    @property
    def workdir(self) -> Path:
        return self.root / "work dir"

    @property
    def jobs(self) -> Path:
        return self.root / "home" / ".colabdev" / "jobs"

    def talk(self) -> Talk:
        environment = {
            "HOME": str(self.root / "home"),
            "PATH": f"{self.root / 'bin'}:/usr/bin:/bin",
        }
        running = start_agent(LocalTransport(environment=environment), self.archive)
        self.talks.append(Talk(running.process, running.hello.pid))
        return self.talks[-1]

    def spec(self, *argv: str, kind: str = jobdir.COMMAND) -> dict[str, object]:
        self.count += 1
        return {
            "schema": 1,
            "id": jobdir.job_id("job", "261120", bytes([*self.salt, *divmod(self.count, 32)])),
            "name": "job",
            "attempt": 1,
            "kind": kind,
            "argv": list(argv),
            "typed": list(argv),
            "workdir": str(self.workdir),
            "created": time.time(),
        }

    def shell(self, line: str) -> dict[str, object]:
        return self.spec("sh", "-c", line)

    def finish(self, spec: Mapping[str, object], **more: object) -> tuple[bytes, Mapping[str, Any]]:
        talk = self.talk()
        talk.request("job.start", spec=spec, follow=True, **more)
        return talk.rest()

    def pid(self, spec: Mapping[str, object]) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.jobs / str(spec["id"]) / "pid").read_text())
        return document

    def close(self) -> None:
        for job in self.jobs.glob("job-*"):
            if not (job / "status.json").exists():
                self.talk().request("job.stop", id=job.name, grace_s=0)
        for talk in self.talks:
            talk.process.close()


def make_bench(root: Path, python: Path) -> Bench:
    bench = Bench(root, build_agent())
    for folder in (root / "home", root / "bin", bench.workdir):
        folder.mkdir(parents=True)
    program = root / "bin" / "python3"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} "$@"\n')
    program.chmod(0o755)
    return bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = make_bench(tmp_path, Path(sys.executable))
    yield bench
    bench.close()


@pytest.fixture(params=sorted(PYTHONS))
def versioned(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench = make_bench(tmp_path, PYTHONS[request.param])
    yield bench
    bench.close()


def is_running(pid: int) -> bool:
    return processes.identify(pid)["start"] is not None


def has_ended(pid: int) -> bool:
    return not is_running(pid)


def test_oldest_python_is_there_to_be_tested() -> None:
    assert "3.8" in PYTHONS


def test_job_ends_with_its_own_status(versioned: Bench) -> None:
    for line, state, code, number in ENDINGS:
        log, status = versioned.finish(versioned.shell(f"echo out; echo err >&2; {line}"))
        assert log == b"out\nerr\n"
        assert (status["state"], status["exit_code"], status["signal"]) == (state, code, number)
        assert status["log_bytes"] == len(log)
        assert status["ended"] >= status["started"]


def test_command_that_cannot_be_executed_ends_as_in_a_shell(bench: Bench) -> None:
    (bench.workdir / "data").write_text("no program")
    for argv, code in ((["nowhere"], 127), (["./nowhere"], 127), (["./data"], 126), (["/"], 126)):
        log, status = bench.finish(bench.spec(*argv))
        assert (status["state"], status["exit_code"]) == ("failed", code)
        assert log.startswith(os.fsencode(argv[0]) + b": ")


def test_python_script_module_and_shell_script_run(versioned: Bench) -> None:
    source = (
        "import os, sys\nprint(sys.argv[1:], os.getcwd(), os.environ['COLABDEV_JOB'], flush=True)"
    )
    (versioned.workdir / "-x y.py").write_text(source)
    (versioned.workdir / "mod.py").write_text(source)
    (versioned.workdir / "-x.sh").write_text('printf "%s\\n" "$@"; pwd\n')
    where = str(versioned.workdir)
    for word, kind in (("-x y.py", jobdir.PYTHON), ("mod", jobdir.MODULE)):
        spec = versioned.spec(word, "-a", "", "it's", kind=kind)
        log, status = versioned.finish(spec)
        assert log.decode() == f"['-a', '', \"it's\"] {where} {spec['id']}\n"
        assert status["exit_code"] == 0
    log, status = versioned.finish(versioned.spec("-x.sh", "a b", kind=jobdir.SHELL))
    assert log.decode() == f"a b\n{where}\n"


def test_environment_is_the_logins_and_the_jobs_own_and_no_value_is_written_down(
    bench: Bench,
) -> None:
    spec = bench.shell("echo $TOKEN $PYTHONUNBUFFERED $COLABDEV_ATTEMPT; test -n $HOME")
    log, _ = bench.finish(spec, env={"TOKEN": "hunter2"})
    assert log == b"hunter2 1 1\n"
    log, _ = bench.finish(bench.shell("echo $PYTHONUNBUFFERED"), env={"PYTHONUNBUFFERED": "0"})
    assert log == b"0\n"
    for path in (bench.jobs / str(spec["id"])).iterdir():
        if path.name != "log":
            assert b"hunter2" not in path.read_bytes(), path


def test_signals_and_descriptors_of_a_job_are_a_shells(bench: Bench) -> None:
    look = "grep -E '^Sig(Blk|Ign):' /proc/self/status | sort -u -k2 ; ls /proc/self/fd | wc -l"
    log, _ = bench.finish(bench.shell(look))
    assert log.split() == [b"SigBlk:", b"0" * 16, b"4"], log  # 0, 1, 2 and the one ls reads with.


def test_job_started_by_many_at_once_runs_once(bench: Bench) -> None:
    spec = bench.shell("echo once >> count; sleep 0.3")
    talks = [bench.talk() for _ in range(5)]
    threads = [
        threading.Thread(target=talk.request, args=("job.start",), kwargs={"spec": spec})
        for talk in talks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    talks[0].request("job.start", spec=spec, follow=True)
    _, status = talks[0].rest()
    assert status["exit_code"] == 0
    talks[1].request("job.start", spec=spec)
    assert (bench.workdir / "count").read_text() == "once\n"
    assert sorted(path.name for path in bench.jobs.iterdir()) == [spec["id"]]


def test_start_that_died_before_its_supervisor_is_taken_up(bench: Bench) -> None:
    spec = bench.shell("echo done")
    directory = bench.jobs / str(spec["id"])
    directory.mkdir(parents=True)
    (directory / "spec.json").write_text(json.dumps({**spec, "command": ["echo", "done"]}))
    (directory / "log").touch()
    assert bench.talk().request("job.status", id=spec["id"])["status"]["state"] == "starting"
    log, status = bench.finish(spec)
    assert (log, status["state"]) == (b"done\n", "succeeded")


def test_log_is_followed_from_any_byte_by_many(bench: Bench) -> None:
    spec = bench.shell("printf 'a\\rb'; read line < go; printf '\\377\\n\\303'; exit 3")
    os.mkfifo(bench.workdir / "go")
    first, second = bench.talk(), bench.talk()
    first.request("job.start", spec=spec, follow=True)
    assert first.next() == ({"offset": 0}, b"a\rb")
    header = second.request("job.follow", id=spec["id"], offset=1)
    assert header == {"offset": 1}
    (bench.workdir / "go").write_text("\n")
    for talk in (first, second):
        log, status = talk.rest()
        assert (log, status["exit_code"]) == (b"\xff\n\xc3", 3)
    late = bench.talk()
    assert late.request("job.follow", id=spec["id"], offset=5) == {"offset": 5}
    assert late.rest()[1]["log_bytes"] == 6


def test_follow_without_waiting_ends_at_once(bench: Bench) -> None:
    spec = bench.shell("echo a; sleep 60")
    talk = bench.talk()
    talk.request("job.start", spec=spec, follow=True)
    talk.next()
    other = bench.talk()
    other.request("job.follow", id=spec["id"], wait=False)
    assert other.rest()[1]["state"] == "running"


def test_agent_that_follows_ends_with_its_client(bench: Bench) -> None:
    talk = bench.talk()
    talk.request("job.start", spec=bench.shell("echo a; sleep 60"), follow=True)
    talk.process.close_stdin()
    started = time.monotonic()
    while talk.process.read(20) is not None:
        pass
    assert talk.process.wait(20).code == 0
    assert time.monotonic() - started < 3


def test_job_is_not_a_child_of_the_agent_and_ignores_hang_up(bench: Bench) -> None:
    spec = bench.shell("sleep 60")
    talk = bench.talk()
    talk.request("job.start", spec=spec)
    pid = bench.pid(spec)
    supervisor, command = int(pid["supervisor"]["pid"]), int(pid["command"]["pid"])
    assert len({os.getsid(supervisor), os.getsid(command), os.getsid(0)}) == 3
    assert os.getpgid(command) == command
    os.kill(supervisor, signal.SIGHUP)
    talk.process.close()
    wait_until(lambda: is_running(supervisor) and is_running(command), message="both run on")


STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("daemon", "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
print("ready", flush=True)
time.sleep(600)
"""


def test_stop_ends_a_job_that_ignores_term_and_its_escaped_daemon(versioned: Bench) -> None:
    spec = versioned.spec("python3", "-c", STUBBORN)
    talk = versioned.talk()
    talk.request("job.start", spec=spec, follow=True)
    talk.next()
    daemon = versioned.workdir / "daemon"
    wait_until(lambda: daemon.exists() and daemon.read_text(), message="the daemon runs")
    begun = time.monotonic()
    status = versioned.talk().request("job.stop", id=spec["id"], grace_s=0.5)["status"]
    assert 0.4 < time.monotonic() - begun < 4
    assert (status["state"], status["signal"]) == ("stopped", signal.SIGKILL)
    wait_until(lambda: not is_running(int(daemon.read_text())), message="the daemon is dead")
    assert talk.rest()[1]["state"] == "stopped"
    assert versioned.talk().request("job.stop", id=spec["id"])["status"] == status


def test_stop_gives_the_job_its_grace_and_its_exit_code_stays_its_own(bench: Bench) -> None:
    spec = bench.shell("trap 'echo saving; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    talk = bench.talk()
    talk.request("job.start", spec=spec, follow=True)
    talk.next()
    begun = time.monotonic()
    bench.talk().request("job.stop", id=spec["id"], grace_s=30)
    assert time.monotonic() - begun < 5
    log, status = talk.rest()
    assert log.endswith(b"saving\n")
    assert (status["state"], status["exit_code"]) == ("stopped", 3)


def test_job_whose_supervisor_was_killed_runs_on_and_ends_as_unknown(versioned: Bench) -> None:
    os.mkfifo(versioned.workdir / "go")
    spec = versioned.shell("echo a; read line < go; echo b")
    talk = versioned.talk()
    talk.request("job.start", spec=spec, follow=True)
    talk.next()
    os.kill(int(versioned.pid(spec)["supervisor"]["pid"]), signal.SIGKILL)
    other = versioned.talk()
    assert other.request("job.status", id=spec["id"])["status"]["state"] == "running"
    (versioned.workdir / "go").write_text("\n")
    log, status = talk.rest()
    assert log == b"b\n"
    assert (status["state"], status["exit_code"], status["signal"]) == ("unknown", None, None)
    assert other.request("job.status", id=spec["id"])["status"] == status


def test_job_of_another_boot_is_unknown(bench: Bench) -> None:
    spec = bench.shell("sleep 60")
    bench.talk().request("job.start", spec=spec)
    pid = bench.pid(spec)
    assert bench.talk().request("job.status", id=spec["id"])["status"]["state"] == "running"
    os.kill(int(pid["supervisor"]["pid"]), signal.SIGKILL)
    os.kill(int(pid["command"]["pid"]), signal.SIGKILL)
    # The number is somebody else's by now: this very process's.
    pid["command"] = {**processes.identify(os.getpid()), "start": pid["command"]["start"]}
    (bench.jobs / str(spec["id"]) / "pid").write_text(json.dumps({**pid, "boot_id": "another"}))
    wait_until(
        lambda: bench.talk().request("job.status", id=spec["id"])["status"]["state"] == "unknown",
        message="it is known to have ended",
    )


def test_stop_without_a_supervisor_ends_everything_of_the_job(bench: Bench) -> None:
    spec = bench.spec("python3", "-c", STUBBORN)
    talk = bench.talk()
    talk.request("job.start", spec=spec, follow=True)
    talk.next()
    daemon = bench.workdir / "daemon"
    wait_until(lambda: daemon.exists() and daemon.read_text(), message="the daemon runs")
    pid = bench.pid(spec)
    os.kill(int(pid["supervisor"]["pid"]), signal.SIGKILL)
    status = bench.talk().request("job.stop", id=spec["id"], grace_s=0.2)["status"]
    assert status["state"] == "unknown"
    for left in (int(pid["command"]["pid"]), int(daemon.read_text())):
        wait_until(partial(has_ended, left), message="it is dead")


def test_background_process_that_is_left_keeps_neither_the_end_nor_the_log_open(
    bench: Bench,
) -> None:
    begun = time.monotonic()
    log, status = bench.finish(bench.shell("(sleep 2; echo late) & echo now"))
    assert (log, status["exit_code"]) == (b"now\n", 0)
    assert time.monotonic() - begun < 1.9


def test_job_that_fills_the_disk_has_its_status_all_the_same(bench: Bench) -> None:
    bench.jobs.parent.mkdir()
    with tiny_disk(bench.jobs.parent, size_kb=400):
        _, status = bench.finish(bench.shell("dd if=/dev/zero bs=1k count=2000; exit 9"))
        assert (status["state"], status["exit_code"]) == ("failed", 9)


def test_events_say_what_happened_where(bench: Bench) -> None:
    spec = bench.shell("echo 12345; exit 4")
    bench.finish(spec)
    lines = (bench.jobs / str(spec["id"]) / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["started", "ended"]
    assert (events[0]["offset"], events[1]["offset"], events[1]["exit_code"]) == (0, 6, 4)


def test_what_cannot_be_started_is_refused_and_leaves_nothing(bench: Bench) -> None:
    missing = bench.spec("nowhere.py", kind=jobdir.PYTHON)
    elsewhere = {**bench.shell("true"), "workdir": str(bench.root / "nowhere")}
    outside = {**bench.shell("true"), "id": "../../escape"}
    for spec, says in (
        (missing, "'nowhere.py': it is not on the runtime"),
        (elsewhere, "is not on the runtime"),
        (outside, "is no job id"),
    ):
        with pytest.raises(ColabdevError, match=says):
            bench.talk().request("job.start", spec=spec)
    assert not bench.jobs.exists() or list(bench.jobs.iterdir()) == []
    with pytest.raises(ColabdevError, match="has no job"):
        bench.talk().request("job.follow", id="job-261120-aaaa")


def test_unreadable_job_is_named_and_the_others_listed(bench: Bench) -> None:
    good, bad = bench.shell("true"), bench.shell("true")
    bench.finish(good)
    bench.finish(bad)
    (bench.jobs / str(bad["id"]) / "status.json").write_text("{")
    listed = bench.talk().request("job.list")
    assert [job["id"] for job in listed["jobs"]] == [good["id"]]
    assert [problem["id"] for problem in listed["problems"]] == [bad["id"]]


# --- the files that a job is started from --------------------------------------------------------


def test_files_are_compared_under_the_lock_under_which_they_are_frozen(bench: Bench) -> None:
    """Another sync has the lock, and changes the files until it lets go."""
    (bench.workdir / "x.py").write_text("print('other files')")
    place = Ledger(str(bench.workdir))
    os.mkdir(place.path)
    place.claim(MARKER)
    spec = bench.spec("x.py", kind=jobdir.PYTHON)
    talk = bench.talk()
    said: list[object] = []

    def start() -> None:
        expect = {"marker": MARKER, "tree": tree.hash_entries([])}
        try:
            said.append(talk.request("job.start", spec=spec, expect=expect))
        except ColabdevError as exc:
            said.append(exc)

    with place.locked(0):
        thread = threading.Thread(target=start)
        thread.start()
        time.sleep(0.5)  # It has looked, if it looks too early.
        fingerprint = "f-" + hashlib.sha256((bench.workdir / "x.py").read_bytes()).hexdigest()
        rows = json.dumps([["x.py", fingerprint, None]])
        owned = f'{{"schema": 1, "files": [\n{rows}\n]}}\n'
        (bench.workdir / ".colabdev" / "owned.json").write_text(owned)
    thread.join(20)
    assert isinstance(said[0], StaleTree), said
    assert list(bench.jobs.iterdir()) == []


@pytest.mark.parametrize("kind", [jobdir.PYTHON, jobdir.COMMAND])
def test_job_is_not_started_in_somebody_elses_work_dir(bench: Bench, kind: str) -> None:
    place = Ledger(str(bench.workdir))
    os.mkdir(place.path)
    place.claim(MARKER)
    other = {**MARKER, "project": "/home/me/other"}
    spec = bench.spec("true", kind=kind)
    with pytest.raises(ColabdevError, match="it belongs to /home/me/digits on this computer"):
        bench.talk().request("job.start", spec=spec, expect={"marker": other})
