"""What is said of jobs when nothing is heard of them, and when clocks and numbers play tricks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.house import House, is_running
from tests.support.jobs import (
    Running,
    allow,
    job_directory,
    listed,
    state_of,
    waiting_for,
)
from tests.support.waiting import wait_until
from tests.support.ways import through_relay

DAY_S = 86400.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("contact")) as house:
        house.connect()
        yield house


def started(house: House, line: str) -> str:
    done = house.colabdev("run", "--detach", "--no-sync", "sh", "-c", line)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_lost_contact_is_said_and_nothing_is_guessed(house: House) -> None:
    with through_relay(house) as relay:
        line = f"echo begun; {waiting_for('more')}; echo more; {waiting_for('back')}; exit 5"
        with Running(house, "run", "--no-sync", "sh", "-c", line) as running:
            assert running.read_line() == "begun\n"
            (job,) = [row["id"] for row in listed(house)]
            with Running(house, "attach", job) as other:
                assert other.read_line() == "begun\n"  # This may be from the copy here.
                allow(house, "more")
                assert (running.read_line(), other.read_line()) == ("more\n", "more\n")
                relay.refuse()
                relay.cut()
                for command in (running, other):
                    assert "the connection to local was cut" in command.read_complaints("cut")
                    command.interrupt()
                    status, _, said = command.finish()
                    assert status == 130
                    assert f"no contact with local: whether {job} runs on is not known" in said
        ps = house.colabdev("ps", "--json")
        assert ps.returncode == 3
        assert "cannot ask how the jobs of 'local' stand" in ps.stderr
        (row,) = json.loads(ps.stdout)["jobs"]
        assert (row["state"], row["current"]) == ("unknown", False)
        assert "unknown, was running" in house.colabdev("ps").stdout
        relay.accept()
        wait_until(lambda: house.colabdev("ps").returncode == 0, message="it does not come back")
        assert state_of(house, job) == "running"
        allow(house, "back")
        assert house.colabdev("attach", job).returncode == 5


def test_number_that_went_to_another_process_is_not_taken_for_the_job(house: House) -> None:
    job = started(house, "exec sleep 600")
    files = job_directory(house, job)
    document = json.loads((files / "pid").read_text())
    for who in ("supervisor", "command"):
        os.kill(int(document[who]["pid"]), signal.SIGKILL)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        for who in ("supervisor", "command"):
            document[who]["pid"] = stranger.pid
        (files / "pid").write_text(json.dumps(document))
        assert state_of(house, job) == "unknown"
        assert house.colabdev("stop", job).returncode == 0
        assert is_running(stranger.pid)
        stranger.kill()
    done = house.colabdev("attach", job)
    assert done.returncode == 125
    assert "exit code unknown" in done.stderr


def test_clocks_that_disagree_keep_nobody_from_a_job(house: House) -> None:
    """As if this computer's clock, or the runtime's, had jumped since it was started."""
    job = started(house, f"echo said; {waiting_for('gate')}; exit 7")
    for ahead_s in (-DAY_S, 2 * DAY_S):
        shift(job_directory(house, job) / "spec.json", "created", ahead_s)
        shift(job_directory(house, job) / "pid", "started", ahead_s)
        assert f"{job} local running" in " ".join(house.colabdev("ps").stdout.split())
    assert house.colabdev("logs", "--since", "10m", job).stdout == "said\n"
    allow(house, "gate")
    assert house.colabdev("attach", job).returncode == 7


def shift(path: Path, key: str, by_s: float) -> None:
    document = json.loads(path.read_text())
    document[key] += by_s
    path.write_text(json.dumps(document))
