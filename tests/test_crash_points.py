"""Promise 8: kill -9 anywhere, run it again, and it is right. Nothing is left running or forgotten."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from colabdev.crash_points import CRASH_POINTS
from tests.agent.test_carrier_crashes import CARRYING
from tests.agent.test_lease import LEAVING
from tests.cli.test_checkpoints import PULL
from tests.colab.crashes import COLAB
from tests.hostile import test_crashes as crashes
from tests.services.test_recovery import RECOVERY
from tests.support.house import House
from tests.support.syncing import look, make_synced_folder
from tests.support.waiting import wait_until

CONNECT = sorted(point for point in CRASH_POINTS if point.startswith(("connect.", "state.")))
DOWN = sorted(point for point in CRASH_POINTS if point.startswith("down."))
RUN = sorted(point for point in CRASH_POINTS if point.startswith("run."))
KILL = sorted(point for point in CRASH_POINTS if point.startswith("kill."))
SYNC = ["sync.received", "sync.writing"]
REPAIR = sorted(point for point in CRASH_POINTS if point.startswith("repair."))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


def test_every_crash_point_is_tried() -> None:
    behind = (*crashes.SYNC, *crashes.KEEPER, *crashes.PLACING, *crashes.STARTING)
    assert {
        *CARRYING,
        *COLAB,
        *CONNECT,
        *DOWN,
        *KILL,
        *LEAVING,
        *PULL,
        *RECOVERY,
        *REPAIR,
        *RUN,
        *SYNC,
        *behind,
    } == CRASH_POINTS


@pytest.mark.parametrize("point", CONNECT)
def test_connect_killed_goes_on_when_typed_again(house: House, point: str) -> None:
    crash(house, point, "connect", "--provider", "local")
    house.connect()
    assert [runtime["state"] for runtime in house.status()] == ["ready"]
    assert len(house.provider.names()) == 1
    assert house.colabdev("down").returncode == 0
    assert_nothing_is_left(house)


@pytest.mark.parametrize("point", CONNECT)
def test_connect_killed_can_be_given_back(house: House, point: str) -> None:
    crash(house, point, "connect", "--provider", "local")
    assert house.colabdev("down", "--all").returncode == 0
    assert_nothing_is_left(house)


@pytest.mark.parametrize("point", SYNC)
def test_sync_killed_while_files_come_home_goes_on(house: House, point: str) -> None:
    house.connect()
    project = make_synced_folder(house, "digits")
    for name in ("edited", "removed", "kept"):
        project.write(name, name)
    project.sync()
    (project.remote / "edited").write_text("there")
    (project.remote / "removed").unlink()
    (project.remote / "new").write_text("there")
    before = look(project.local)
    killed = house.colabdev("sync", cwd=project.local, env={"COLABDEV_CRASH_AT": point})
    assert killed.returncode == 137, killed.stderr
    assert set(look(project.local).items()) <= {*before.items(), *look(project.remote).items()}
    assert project.sync()["conflicts"] == []
    project.assert_equal()
    assert project.sync()["actions"] == []


@pytest.mark.parametrize("point", DOWN)
def test_down_killed_goes_on_when_typed_again(house: House, point: str) -> None:
    house.connect()
    crash(house, point, "down", "local")
    house.status()  # Whatever it says, it must neither fail nor bring anything back.
    assert house.colabdev("down", "--all").returncode == 0
    assert_nothing_is_left(house)


@pytest.mark.parametrize("point", DOWN)
def test_connect_after_down_was_killed_gives_a_new_machine(house: House, point: str) -> None:
    before = house.connect()
    crash(house, point, "down", "local")
    after = house.connect()
    assert after.request_id != before.request_id
    assert [runtime["state"] for runtime in house.status()] == ["ready"]


@pytest.mark.parametrize("point", KILL)
def test_local_kill_killed_goes_on_when_typed_again(house: House, point: str) -> None:
    house.connect()
    crash(house, point, "local", "kill", "local")
    done = house.colabdev("local", "kill", "local")
    assert done.returncode == 0, done.stderr
    assert [runtime["state"] for runtime in house.status()] == ["lost"]
    assert house.provider.names() == ()
    assert house.colabdev("down", "local").returncode == 0
    assert_nothing_is_left(house)


@pytest.mark.parametrize("point", REPAIR)
def test_repair_killed_forgets_nothing(house: House, point: str) -> None:
    house.connect()
    state_file = house.places.state_dir / "runtimes" / "local.json"
    state_file.write_text('{"schema": 1, "name": "local"')
    crash(house, point, "doctor", "--repair", "local")
    assert state_file.read_text() == '{"schema": 1, "name": "local"'
    assert house.colabdev("doctor", "--repair", "local").returncode == 0
    assert [runtime["state"] for runtime in house.status()] == ["ready"]


@pytest.mark.parametrize("point", RUN)
def test_run_killed_starts_its_job_once_or_never_and_says_which(house: House, point: str) -> None:
    house.connect()
    crash(house, point, "run", "--name", "job", "sh", "-c", "echo ran >> ran")
    [job] = json.loads(house.colabdev("ps", "--json").stdout)["jobs"]
    ran = Path(house.record().workdir or "") / "ran"
    if point == "run.recorded":
        assert job["state"] == "queued"
        assert not ran.exists()
        return
    done = house.colabdev("logs", "-f", job["id"])
    assert done.returncode == 0, done.stderr
    assert ran.read_text() == "ran\n"
    [job] = json.loads(house.colabdev("ps", "--json").stdout)["jobs"]
    assert (job["state"], job["exit_code"]) == ("succeeded", 0)


def test_commands_killed_at_random_moments_leave_nothing(house: House) -> None:
    kill_campaign(house, rounds=8, seed=2)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_commands_killed_at_random_moments_leave_nothing_long(house: House) -> None:
    kill_campaign(house, rounds=150, seed=3)


def kill_campaign(house: House, *, rounds: int, seed: int) -> None:
    """connect and down, killed at random moments; whenever one may finish, all is right."""
    dice = random.Random(seed)
    kills = done = 0
    commands = (["connect", "--provider", "local"], ["down", "--all"])
    undisturbed_s = [timed(house, *command) for command in commands]
    # How often a kill meets a command depends on what else the machine does.
    while done < rounds or (kills < rounds // 2 and done < 4 * rounds):
        done += 1
        for command, whole_s in zip(commands, undisturbed_s, strict=True):
            kills += killed_after(house, dice.uniform(0.2, 1.0) * whole_s, *command)
        if dice.random() < 0.3:
            house.connect()
            assert [runtime["state"] for runtime in house.status()] == ["ready"]
    assert kills >= rounds // 2, "the campaign must really kill"
    assert house.colabdev("down", "--all").returncode == 0
    assert_nothing_is_left(house)


def timed(house: House, *arguments: str) -> float:
    """Seconds that the command line takes when nobody kills it."""
    begun = time.monotonic()
    assert house.colabdev(*arguments).returncode == 0
    return time.monotonic() - begun


def killed_after(house: House, delay_s: float, *arguments: str) -> bool:
    """Run the command line and kill -9 it after a while; whether it had not finished by then."""
    command = subprocess.Popen(
        [sys.executable, "-m", "colabdev", *arguments],
        cwd=house.project,
        env=house.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        command.wait(delay_s)
    except subprocess.TimeoutExpired:
        command.send_signal(signal.SIGKILL)
        command.wait()
        return True
    return False


def crash(house: House, point: str, *arguments: str) -> None:
    """Run the command line up to the crash point, which must be reached."""
    done = house.colabdev(*arguments, env={"COLABDEV_CRASH_AT": point})
    assert done.returncode == 137, f"{point} was not reached: {done.stderr}"


def assert_nothing_is_left(house: House) -> None:
    """No record, no host entry, no sandbox, no process of this house, and Drive still there."""
    assert house.store.names() == []
    assert house.provider.names() == ()
    assert not list((house.places.local_dir / "sandboxes").glob("*"))
    config = house.ssh_files.config_file
    assert not config.exists() or "Host " not in config.read_text()
    wait_until(lambda: not processes(house), timeout_s=15, message="no process is left")


def processes(house: House) -> list[str]:
    """The command lines of everything that runs for this house."""
    state = os.fsencode(house.places.state_dir)
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if state in (directory / "environ").read_bytes() + (directory / "cmdline").read_bytes():
                found.append(os.fsdecode((directory / "cmdline").read_bytes()))
        except OSError:
            continue  # Gone meanwhile, or somebody else's.
    return [command for command in found if command]
