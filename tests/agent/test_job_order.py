"""Jobs that wait for others, and jobs that may only take so long, as the agent keeps them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from colabdev.errors import ColabdevError
from tests.agent.test_jobs import PYTHONS, Bench, has_ended, make_bench
from tests.support.waiting import wait_until


@pytest.fixture(params=sorted(PYTHONS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench = make_bench(tmp_path, PYTHONS[request.param])
    yield bench
    bench.close()


def gated(bench: Bench, code: int = 0) -> dict[str, object]:
    """A job that runs until `open_gate`."""
    spec = bench.shell(f"while [ ! -e gate ]; do sleep 0.02; done; exit {code}")
    bench.talk().request("job.start", spec=spec)
    return spec


def open_gate(bench: Bench) -> None:
    (bench.workdir / "gate").touch()


def after(
    spec: Mapping[str, object], *others: Mapping[str, object], ok: bool = False
) -> dict[str, object]:
    return {**spec, "after": [{"id": other["id"], "ok": ok} for other in others]}


def state(bench: Bench, spec: Mapping[str, object]) -> tuple[str, object]:
    status = bench.talk().request("job.status", id=spec["id"])["status"]
    return status["state"], status["started"]


def test_job_waits_for_all_that_it_comes_after(bench: Bench) -> None:
    first, second = gated(bench, 3), gated(bench)
    spec = after(bench.shell("echo ran"), first, second)
    talk = bench.talk()
    talk.request("job.start", spec=spec, follow=True)
    wait_until(lambda: state(bench, spec) == ("queued", None), message="it waits")
    assert state(bench, first)[0] == "running"
    before = time.time()
    open_gate(bench)
    log, status = talk.rest()
    assert (log, status["state"], status["exit_code"]) == (b"ran\n", "succeeded", 0)
    assert status["started"] >= before


def test_job_that_needs_a_success_does_not_run_after_a_failure(bench: Bench) -> None:
    first = gated(bench, 3)
    second = after(bench.shell("touch ran-second"), first, ok=True)
    third = after(bench.shell("touch ran-third"), second, ok=True)
    last = after(bench.shell("echo ran all the same"), second)
    talks = [bench.talk() for _ in range(3)]
    for talk, spec in zip(talks, (second, third, last), strict=True):
        talk.request("job.start", spec=spec, follow=True)
    open_gate(bench)
    for talk, before, how in (
        (talks[0], first, "failed with 3"),
        (talks[1], second, "stopped with 125"),
    ):
        log, status = talk.rest()
        assert log.decode() == f"colabdev: not started, because {before['id']} {how}\n"
        assert (status["state"], status["exit_code"], status["started"]) == ("stopped", 125, None)
    assert talks[2].rest()[0] == b"ran all the same\n"
    assert not list(bench.workdir.glob("ran-*"))


def test_job_that_waits_can_be_stopped(bench: Bench) -> None:
    first = gated(bench)
    spec = after(bench.shell("touch ran"), first)
    talk = bench.talk()
    talk.request("job.start", spec=spec)
    status = talk.request("job.stop", id=spec["id"], grace_s=5)["status"]
    assert (status["state"], status["signal"], status["started"]) == (
        "stopped",
        signal.SIGTERM,
        None,
    )
    assert state(bench, first)[0] == "running"
    assert not (bench.workdir / "ran").exists()


def test_job_that_waits_does_not_begin_without_its_supervisor(bench: Bench) -> None:
    first = gated(bench)
    spec = after(bench.shell("touch ran"), first)
    bench.talk().request("job.start", spec=spec)
    wait_until(lambda: state(bench, spec)[0] == "queued", message="it waits")
    pid = bench.pid(spec)
    os.kill(pid["supervisor"]["pid"], signal.SIGKILL)
    wait_until(lambda: has_ended(pid["command"]["pid"]), message="it ends by itself")
    open_gate(bench)
    wait_until(lambda: state(bench, first)[0] == "succeeded", message="the other ends")
    assert state(bench, spec) == ("unknown", None)
    assert not (bench.workdir / "ran").exists()


def test_end_that_nobody_saw_lets_the_next_begin(bench: Bench) -> None:
    first = gated(bench)
    spec = after(bench.shell("echo ran"), first)
    talk = bench.talk()
    talk.request("job.start", spec=spec, follow=True)
    os.kill(bench.pid(first)["supervisor"]["pid"], signal.SIGKILL)
    open_gate(bench)
    assert talk.rest()[0] == b"ran\n"


def test_job_after_one_that_is_not_there_is_refused(bench: Bench) -> None:
    spec = after(bench.shell("echo ran"), {"id": "gone-261120-aaaa"})
    with pytest.raises(ColabdevError, match="the runtime has no such job"):
        bench.talk().request("job.start", spec=spec)
    assert not list(bench.jobs.glob("*"))


def test_job_that_takes_too_long_is_ended_with_all_it_started(bench: Bench) -> None:
    line = "trap 'echo bye; exit 5' TERM; sleep 60 & echo $! > child; while :; do sleep 0.02; done"
    spec = {**bench.shell(line), "timeout_s": 0.5}
    log, status = bench.finish(spec)
    assert log.endswith(b"bye\n"), "the shell may say that its child was ended"
    assert (status["state"], status["exit_code"]) == ("timed_out", 5)
    child = int((bench.workdir / "child").read_text())
    wait_until(lambda: has_ended(child), message="its child is gone")
    assert 0.5 <= status["ended"] - status["started"] < 5


def test_time_of_a_job_counts_from_when_its_command_begins(bench: Bench) -> None:
    first = gated(bench)
    spec = {**after(bench.shell("echo ran"), first), "timeout_s": 1}
    talk = bench.talk()
    talk.request("job.start", spec=spec, follow=True)
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 1.2, message="it waits longer than it may run")
    open_gate(bench)
    log, status = talk.rest()
    assert (log, status["state"]) == (b"ran\n", "succeeded")
