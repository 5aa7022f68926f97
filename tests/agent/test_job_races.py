"""Jobs at the wrong moment: stopped or orphaned while they start, when the clock jumps, in too little
memory, with a number that is somebody else's by now."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from colabdev.agent import jobdir, jobs, processes
from colabdev.errors import ColabdevError
from tests.agent.test_jobs import Bench, is_running, make_bench
from tests.support.agents import Talk
from tests.support.waiting import wait_until

MEMORY_CGROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = make_bench(tmp_path, Path(sys.executable))
    yield bench
    bench.close()


def ended(bench: Bench, spec: Mapping[str, object]) -> Mapping[str, Any]:
    """The job's status, which it must have soon."""
    talk = bench.talk()

    def look() -> Mapping[str, Any]:
        status: Mapping[str, Any] = talk.request("job.status", id=spec["id"])["status"]
        return status if status["state"] in jobdir.ENDED_STATES else {}

    return wait_until(look, timeout_s=20, message="it ends")


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Do it at the same time; that it may be refused is part of the race."""

    def do() -> None:
        with suppress(ColabdevError):
            work()

    thread = threading.Thread(target=do)
    thread.start()
    return thread


def test_stop_right_behind_the_start_is_not_swallowed(bench: Bench) -> None:
    talk = bench.talk()
    for _ in range(25):
        spec = bench.shell("exec sleep 600")
        talk.request("job.start", spec=spec)
        status = talk.request("job.stop", id=spec["id"], grace_s=60)["status"]
        assert status["signal"] == signal.SIGTERM


def test_jobs_stopped_while_they_start_are_started_once_and_end(bench: Bench) -> None:
    stop_while_starting(bench, seed=1, rounds=6)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_jobs_stopped_while_they_start_are_started_once_and_end_long(bench: Bench) -> None:
    stop_while_starting(bench, seed=2, rounds=100)


def stop_while_starting(bench: Bench, *, seed: int, rounds: int) -> None:
    dice = random.Random(seed)
    starter, again, stopper = bench.talk(), bench.talk(), bench.talk()
    for _ in range(rounds):
        spec = bench.shell('echo "$COLABDEV_JOB" >> ran; exec sleep 600')
        threads = [
            in_thread(partial(starter.request, "job.start", spec=spec)),
            in_thread(partial(again.request, "job.start", spec=spec)),
            in_thread(partial(stop_after, dice.uniform(0, 0.15), stopper, spec)),
        ]
        for thread in threads:
            thread.join(40)
            assert not thread.is_alive()
        # The stop may have come before there was a job; a second one then ends it.
        bench.talk().request("job.stop", id=spec["id"], grace_s=5)
        status = ended(bench, spec)
        assert (status["state"], status["signal"]) == ("stopped", signal.SIGTERM)
        wait_until(partial(is_all_gone, str(spec["id"])), message="nothing of it is left")
    ids = (bench.workdir / "ran").read_text().split()
    assert len(ids) == len(set(ids)), "none ran twice"


def is_all_gone(job_id: str) -> bool:
    return not processes.with_variable("COLABDEV_JOB", job_id)


def stop_after(pause_s: float, talk: Talk, spec: Mapping[str, object]) -> None:
    time.sleep(pause_s)
    talk.request("job.stop", id=spec["id"], grace_s=5)


def test_supervisor_killed_at_any_moment_leaves_a_job_that_ran_once_or_never(
    bench: Bench,
) -> None:
    kill_supervisors(bench, seed=1, rounds=6)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_supervisor_killed_at_any_moment_leaves_a_job_that_ran_once_or_never_long(
    bench: Bench,
) -> None:
    kill_supervisors(bench, seed=2, rounds=100)


def kill_supervisors(bench: Bench, *, seed: int, rounds: int) -> None:
    dice = random.Random(seed)
    killed = 0
    for _ in range(rounds):
        spec = bench.shell('echo "$COLABDEV_JOB" >> ran; sleep 0.1')
        starting = in_thread(partial(bench.talk().request, "job.start", spec=spec))
        time.sleep(dice.uniform(0, 0.3))
        for pid in supervisors(bench, str(spec["id"])):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        starting.join(40)
        assert not starting.is_alive()
        # Whoever was cut off asks again; that starts what never ran, and nothing twice.
        with suppress(ColabdevError):
            bench.talk().request("job.start", spec=spec)
        status = ended(bench, spec)
        ran = (bench.workdir / "ran").read_text().split().count(str(spec["id"]))
        assert (status["state"], ran) in (("succeeded", 1), ("unknown", 1), ("unknown", 0)), status
    assert killed >= rounds / 3, "the campaign must really kill"


def supervisors(bench: Bench, job_id: str) -> list[int]:
    """By their command lines: they may not have written down that they are there."""
    wanted = os.fsencode(bench.jobs / job_id)
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (directory / "cmdline").read_bytes().split(b"\0")
            if b"supervise" in words and wanted in words:
                found.append(int(directory.name))
    return found


def test_number_that_is_somebody_elses_by_now_is_neither_taken_for_the_job_nor_stopped(
    bench: Bench,
) -> None:
    spec = bench.shell("sleep 600")
    bench.talk().request("job.start", spec=spec)
    pid = bench.pid(spec)
    for name in ("supervisor", "command"):
        os.kill(int(pid[name]["pid"]), signal.SIGKILL)
    other = bench.shell("sleep 600")
    bench.talk().request("job.start", spec=other)
    # The same boot, and numbers that run again: those of the other job, at its start times' neighbours.
    reused = {
        name: {**bench.pid(other)[name], "start": pid[name]["start"]}
        for name in ("supervisor", "command")
    }
    (bench.jobs / str(spec["id"]) / "pid").write_text(json.dumps({**pid, **reused}))
    assert ended(bench, spec)["state"] == "unknown"
    assert (
        bench.talk().request("job.stop", id=spec["id"], grace_s=0)["status"]["state"] == "unknown"
    )
    with pytest.raises(ColabdevError):
        bench.talk().request("job.signal", id=spec["id"], signal="NOPE")
    bench.talk().request("job.signal", id=spec["id"], signal="KILL")
    assert is_running(int(reused["command"]["pid"]))
    assert bench.talk().request("job.status", id=other["id"])["status"]["state"] == "running"


@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0])
def test_clock_that_jumps_ends_no_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    """Only the clock of who asks is another: that of the supervisor, which waits by the monotonic one,
    cannot be turned without the whole machine's."""
    monkeypatch.setenv("HOME", str(bench.root / "home"))
    clock = {"monotonic": time.monotonic, "sleep": time.sleep}
    spec = bench.shell("trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done")
    talk = bench.talk()
    talk.request("job.start", spec=spec, follow=True)
    assert talk.next()[1] == b"ready\n"
    jumped = SimpleNamespace(time=lambda: time.time() + jump_s, **clock)
    monkeypatch.setattr("colabdev.agent.jobs.time", jumped)
    told, _ = jobs.answer_status({"id": spec["id"]}, b"")
    assert told["status"]["state"] == "running"
    told, _ = jobs.answer_stop({"id": spec["id"], "grace_s": 60}, b"")
    assert (told["status"]["state"], told["status"]["exit_code"]) == ("stopped", 4)


def test_job_that_runs_out_of_memory_ends_with_its_own_status(bench: Bench) -> None:
    with memory_limit(64 << 20) as confine:
        log, status = bench.finish(
            bench.spec("sh", "-c", f"{confine}; exec python3 -c 'print(1); bytearray(400 << 20)'")
        )
    assert log.startswith(b"1\n"), log
    assert status["state"] == "failed"
    if b"MemoryError" in log:
        assert status["exit_code"] == 1
    else:
        assert status["signal"] == signal.SIGKILL


@contextmanager
def memory_limit(size_bytes: int) -> Iterator[str]:
    """A shell command that confines its shell: to a cgroup where one can be made, else by ulimit, which
    nobody is killed for."""
    if not os.access(MEMORY_CGROUPS / "memory.limit_in_bytes", os.W_OK):
        yield f"ulimit -v {(size_bytes + (200 << 20)) // 1024}"
        return
    group = Path(tempfile.mkdtemp(dir=MEMORY_CGROUPS))
    try:
        (group / "memory.limit_in_bytes").write_text(str(size_bytes))
        yield f"echo $$ > {group}/cgroup.procs"
    finally:
        group.rmdir()
