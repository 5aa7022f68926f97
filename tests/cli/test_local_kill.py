"""`colabdev local kill`: afterwards the runtime is lost, and everything says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.records import make_record
from tests.support.terminals import at_terminal


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


def test_killed_runtime_is_lost_and_so_are_its_jobs(house: House) -> None:
    house.connect()
    (house.project / "code.py").write_text("print(1)\n")
    started = house.colabdev("run", "--detach", "sleep", "1000")
    assert started.returncode == 0, started.stderr
    done = house.colabdev("local", "kill", "local", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (
        0,
        {"schema": 1, "name": "local", "killed": True},
    )
    assert [runtime["state"] for runtime in house.status()] == ["lost"]
    [job] = json.loads(house.colabdev("ps", "--json").stdout)["jobs"]
    assert (job["state"], job["exit_code"]) == ("lost", None)
    attached = house.colabdev("attach")
    assert (attached.returncode, attached.stdout) == (125, "")
    assert f"{job['id']} is lost: its runtime went before it ended\n" in attached.stderr
    again = house.colabdev("run", "--continue", job["id"], "--detach")
    assert (again.returncode, again.stdout) == (125, "")
    assert (
        f"cannot go on with {job['id']}: it was started without [checkpoints] dir" in again.stderr
    )
    assert house.colabdev("sync").returncode == 12
    ran = house.colabdev("run", "true")
    assert (ran.returncode, "no runtime is up" in ran.stderr) == (125, True)


def test_terminal_is_given_back_when_the_machine_dies(house: House) -> None:
    house.connect()
    with at_terminal(house, "run", "-i", "cat") as at:
        at.type(b"typed\r")
        at.expect(b"typed\r\ntyped\r\n")
        assert house.colabdev("local", "kill", "local").returncode == 0
        assert at.finish() == 125
        assert at.modes() == at.modes_before
        assert "colabdev: the runtime 'local' is gone" in "".join(at.screen())


def test_kill_again_is_harmless_and_connect_starts_a_new_machine(house: House) -> None:
    before = house.connect()
    house.colabdev("local", "kill", "local")
    again = house.colabdev("local", "kill", "local")
    assert (again.returncode, "dead already" in again.stdout) == (0, True)
    assert house.connect().request_id != before.request_id
    assert house.colabdev("local", "kill", "local").returncode == 0
    assert house.colabdev("down", "local").returncode == 0
    assert house.status() == []


def test_runtime_that_runs_without_a_record_can_be_killed(house: House) -> None:
    house.connect()
    house.end_keeper()
    house.store.delete("local")
    assert house.colabdev("local", "kill", "local").returncode == 0
    assert house.provider.names() == ()


@pytest.mark.long
def test_status_shows_a_half_killed_runtime_and_the_others(house: House) -> None:
    house.connect()
    house.connect("other")
    done = house.colabdev("local", "kill", "local", env={"COLABDEV_CRASH_AT": "kill.frozen"})
    assert done.returncode == 137
    house.end_keeper()  # The next one cannot connect, and has to ask.
    states = {runtime["name"]: runtime["state"] for runtime in house.status()}
    assert states == {"local": "unreachable", "other": "ready"}
    assert house.colabdev("local", "kill", "local").returncode == 0


def test_what_cannot_be_killed_is_said(house: House) -> None:
    unknown = house.colabdev("local", "kill", "nobody")
    assert (unknown.returncode, "no runtime is called" in unknown.stderr) == (1, True)
    house.store.save(replace(make_record("cloud", provider="colab"), keeper=None))
    other = house.colabdev("local", "kill", "cloud")
    assert (other.returncode, "provider 'colab'" in other.stderr) == (2, True)
    assert house.store.names() == ["cloud"]
