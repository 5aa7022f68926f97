"""What stays with a job, what leaves it, and what ends it; on both kinds of SSH server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.house import House, is_running
from tests.support.jobs import (
    Running,
    allow,
    job_of,
    kill,
    listed,
    run_bytes,
    state_of,
    supervisor_pid,
    waiting_for,
    workdir,
)
from tests.support.waiting import wait_until
from tests.support.ways import SERVERS, through_relay, through_server

INTERRUPTIBLE = "trap 'echo saving; exit 9' INT; echo ready; while :; do sleep 0.05; done"

ESCAPES = {
    "daemon": "setsid sh -c 'echo $$ > escaped; exec sleep 600' & wait",
    "double fork": "(setsid sh -c 'echo $$ > escaped; exec sleep 600' &); sleep 600",
    "new group, old parent gone": "(set -m; sh -c 'echo $$ > escaped; exec sleep 600' &); sleep 600",
    "no environment": "(env -i setsid sh -c 'echo $$ > escaped; exec sleep 600' &); sleep 600",
    "deaf": "(setsid sh -c 'trap : TERM; echo $$ > escaped; while :; do sleep 1; done' &); sleep 600",
}

HOPPING = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    time.sleep(600)
os.setpgid(0, 0)
open("hopping", "w").write(str(os.getpid()))
while True:
    if os.fork():
        os._exit(0)
"""
"""Forks and ends all the time, so that no list of processes names one that still runs."""


@pytest.fixture(scope="module", params=SERVERS)
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        with through_server(house, request.param):
            yield house


def test_ctrl_c_detaches_at_once_and_says_how_to_go_on(house: House) -> None:
    with Running(house, "run", "sh", "-c", f"echo first; {waiting_for('later')}") as running:
        assert running.read(6) == b"first\n"
        running.interrupt()
        status, _, err = running.finish(timeout_s=5)
    job_id = job_of(err)
    assert status == 130
    assert f"colabdev logs -f {job_id}" in err
    assert f"colabdev stop {job_id}" in err
    assert state_of(house, job_id) == "running"
    allow(house, "later")


@pytest.mark.parametrize("words", [(), ("--attached",)])
def test_terminal_that_closes_detaches(house: House, words: tuple[str, ...]) -> None:
    (workdir(house) / "hung-up").unlink(missing_ok=True)
    line = f"echo first; {waiting_for('hung-up')}"
    with Running(house, "run", *words, "sh", "-c", line) as running:
        assert running.read(6) == b"first\n"
        os.kill(running.pid, signal.SIGHUP)
        status, _, err = running.finish(timeout_s=5)
    assert status == -signal.SIGHUP
    assert state_of(house, job_of(err)) == "running"
    allow(house, "hung-up")


def test_ctrl_c_of_an_attached_run_is_the_jobs(house: House) -> None:
    with Running(house, "run", "--attached", "sh", "-c", INTERRUPTIBLE) as running:
        assert running.read(6) == b"ready\n"
        running.interrupt()
        status, out, err = running.finish(timeout_s=10)
    assert (status, out) == (9, b"saving\n"), err
    assert "runs on" not in err
    assert listed(house)[0]["state"] == "failed"


def test_attached_run_is_interrupted_as_often_as_wanted(house: House) -> None:
    line = "trap 'echo once' INT; echo ready; while :; do sleep 0.05; done"
    with Running(house, "run", "--attached", "sh", "-c", line) as running:
        assert running.read(6) == b"ready\n"
        for _ in range(3):
            running.interrupt()
            assert running.read(5) == b"once\n"
        job_id = listed(house)[0]["id"]
        assert house.colabdev("stop", job_id, "--grace", "0").returncode == 0
        assert running.finish()[0] == 143


def test_ctrl_c_twice_leaves_an_attached_run_whose_way_is_cut(house: House) -> None:
    with through_relay(house) as relay:
        with Running(house, "run", "--attached", "sh", "-c", INTERRUPTIBLE) as running:
            assert running.read(6) == b"ready\n"
            relay.freeze()
            deadline = time.monotonic() + 10
            while is_running(running.pid) and time.monotonic() < deadline:
                running.interrupt()
                time.sleep(0.3)
            status, _, err = running.finish(timeout_s=1)
            relay.thaw()
        assert status == 130
        assert "runs on" in err
        assert house.colabdev("stop", job_of(err), "--grace", "0").returncode == 0


def test_stop_sends_the_signal_that_is_asked_for(house: House) -> None:
    job_id = house.colabdev("run", "--detach", "sh", "-c", INTERRUPTIBLE).stdout.strip()
    wait_until(partial(log_has, house, job_id, b"ready"), message="it traps")
    done = house.colabdev("stop", job_id, "--signal", "SIGINT")
    assert done.stdout == f"{job_id} is stopped, exit code 9\n", done.stderr


def log_has(house: House, job_id: str, text: bytes) -> bool:
    return text in run_bytes(house, "logs", job_id)[1]


@pytest.mark.parametrize(
    ("how", "without_supervisor"),
    # Without its supervisor only the environment tells whose a process is.
    [(how, False) for how in ESCAPES] + [(how, True) for how in ESCAPES if how != "no environment"],
)
def test_stop_ends_what_escaped(house: House, how: str, *, without_supervisor: bool) -> None:
    escaped = workdir(house) / "escaped"
    escaped.unlink(missing_ok=True)
    job_id = house.colabdev("run", "--detach", "sh", "-c", ESCAPES[how]).stdout.strip()
    pid = int(wait_until(partial(content, escaped), message="it has escaped"))
    if without_supervisor:
        kill(supervisor_pid(house, job_id))
    done = house.colabdev("stop", job_id, "--grace", "0.2")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not is_running(pid), message="it is dead")


def test_stop_ends_what_forks_and_ends_all_the_time(house: House) -> None:
    hopping = workdir(house) / "hopping"
    hopping.unlink(missing_ok=True)
    job_id = house.colabdev("run", "--detach", "python3", "-c", HOPPING).stdout.strip()
    group = int(wait_until(partial(content, hopping), message="it hops"))
    done = house.colabdev("stop", job_id, "--grace", "0")
    assert done.stdout == f"{job_id} is stopped, exit code 137\n", done.stderr
    with pytest.raises(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def test_loop_that_reads_lines_keeps_its_stdin(house: House) -> None:
    run = f"{sys.executable} -m colabdev run sh -c 'cat; echo got $0' $line"
    done = subprocess.run(
        ["sh", "-c", f"printf 'a\\nb\\nc\\n' | while read -r line; do {run}; done"],
        cwd=house.project,
        env=house.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "got a\ngot b\ngot c\n", done.stderr


def content(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
