"""Jobs that go on on a new machine, on real sandboxes that die, with nobody at the keyboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from colabdev.adapters.recovery_store import FileRecoveryStore
from tests.services.test_recovery import RECOVERY
from tests.support.house import House
from tests.support.jobs import allow, job_directory
from tests.support.recovering import (
    allow_many,
    beside,
    forget_the_hour,
    is_safe,
    kill_at,
    log_of,
    record,
    settle,
    standing,
    train,
)
from tests.support.waiting import wait_until


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        settle(house)
        house.connect()
        yield house


def die(house: House) -> None:
    """The machine, as a VM dies."""
    done = house.colabdev("local", "kill", "local")
    assert done.returncode == 0, done.stderr


def wait_for_attempt(house: House, job: str, attempt: int) -> None:
    wait_until(
        lambda: (
            standing(house, job).get("step") == "started"
            and record(house, job)["attempt"] == attempt
            and "step" in log_of(house, job, attempt)
        ),
        timeout_s=60,
        message=f"attempt {attempt} is seen to run: {standing(house, job)}",
    )


def first_step(log: str) -> tuple[int, int]:
    """The attempt's number, and the step that it began from."""
    found = re.match(r"attempt (\d+) from (\d+)", log)
    assert found is not None, log
    return int(found[1]), int(found[2])


def assert_went_on(house: House, job: str, attempt: int) -> None:
    """From a step that had been printed before, on the only machine there is, and once."""
    number, step = first_step(log_of(house, job, attempt))
    assert number == attempt
    assert step > 0
    assert house.provider.names() == ("local",)
    spec = json.loads((job_directory(house, job) / "spec.json").read_text())
    assert (spec["attempt"], spec["from"]) == (attempt, record(house, job)["resumed"])
    assert spec["from"]["step"] == step


def test_job_goes_on_by_itself_until_it_is_stopped(house: House) -> None:
    """By the same keeper, which goes over to the new machine; and stopped between two it stays so."""
    job = train(house)
    keeper = house.keeper_pid()
    plans = FileRecoveryStore(house.places.state_dir)
    order = plans.order(job)
    assert order is not None
    assert order.tree == plans.code_tree(job), "it may be packed here, before any machine is asked"
    beside(house, job, "code.zip").unlink()  # Drive has it, too.
    die(house)
    wait_for_attempt(house, job, 2)
    assert house.keeper_pid() == keeper
    assert_went_on(house, job, 2)
    house.end_keeper()
    die(house)
    assert house.colabdev("stop", job).returncode == 0
    assert record(house, job)["state"] == "stopped"
    again = house.colabdev("run", "--continue", job, "--agreed", "--detach", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["attempt"] == 2
    assert house.provider.names() == ()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_next_command_starts_a_keeper_that_goes_on_and_down_is_no_death(house: House) -> None:
    job = train(house)
    house.end_keeper()
    die(house)
    assert [row["state"] for row in house.status()] == ["lost"]
    wait_for_attempt(house, job, 2)
    assert_went_on(house, job, 2)
    assert first_step(log_of(house, job, 1)) == (1, 0)
    assert [row["attempt"] for row in record(house, job)["past"]] == [1]
    assert house.colabdev("down", "--force").returncode == 0
    assert record(house, job)["state"] == "stopped"
    assert (house.store.names(), house.provider.names()) == ([], ())


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_whoever_goes_on_with_it_is_killed_at_each_step(house: House) -> None:
    """kill -9 of the command at every crash point, and of the keeper that typed it: typed again by the
    keeper that the next command starts, the job goes on, each attempt once."""
    job = train(house)
    allow_many(house, job)
    for number, point in enumerate(RECOVERY, start=2):
        house.end_keeper()
        die(house)
        kill_at(house, point, job)
        house.end_keeper()
        house.status()
        wait_for_attempt(house, job, number)
        assert_went_on(house, job, number)
        wait_until(
            lambda number=number: is_safe(house, job, attempt=number),  # type: ignore[misc]
            timeout_s=60,
            message=f"attempt {number} is safe",
        )
        forget_the_hour(house, job)
    assert [row["attempt"] for row in record(house, job)["past"]] == list(range(1, number))
    allow(house, "enough")
    assert house.colabdev("attach", job).returncode == 0
