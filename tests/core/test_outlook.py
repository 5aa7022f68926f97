"""What is ahead of a job, in words: its end, its machine's, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from colabdev.core.outlook import (
    UNBOUND,
    Bounds,
    Prices,
    bounds_of,
    describe_done,
    describe_outlook,
    last_to_end,
    outlook_of,
)
from colabdev.models import ColabTunnel
from tests.support.records import make_record

NOW = datetime(2026, 11, 20, 22, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
CLOCK = 5000.0
"""The runtime's: nobody set it."""


def row(**progress: Any) -> dict[str, object]:
    """A job that makes 100 steps an hour and is at step 500 of 1000."""
    marks = [[CLOCK - 36.0 * (500 - step), step] for step in range(400, 501, 5)]
    told = {"marks": marks, "total": 1000, "time": CLOCK, **progress}
    return {"id": "train-261120-abcd", "state": "running", "progress": told}


def test_all_of_it_is_said_in_one_line() -> None:
    bounds = Bounds(NOW + 4.5 * HOUR, 12 * 3600, hourly_rate=4.0, balance=18.0)
    outlook = outlook_of(row(), bounds, NOW, 3)
    assert outlook is not None
    said = describe_outlook(outlook, NOW, UTC)
    assert said.startswith("done 03:05 ± ")
    assert said.endswith(" min; VM limit 02:30; one hand-over; 20.3 units, you have 18")
    assert (outlook.step, outlook.total_steps, outlook.hand_overs) == (500, 1000, 1)
    assert outlook.low < outlook.done < outlook.high


def test_machine_of_ones_own_has_no_limit_and_no_price() -> None:
    outlook = outlook_of(row(), UNBOUND, NOW, 0)
    assert outlook is not None
    said = describe_outlook(outlook, NOW, UTC)
    assert said.startswith("done 03:00 ± ")
    assert ";" not in said
    assert last_to_end([None, outlook]) is outlook
    assert last_to_end([None]) is None


@pytest.mark.parametrize(
    ("left", "life", "count", "words"),
    [
        (6 * HOUR, 12 * HOUR, 0, "VM limit 04:00"),
        (2 * HOUR, 12 * HOUR, 1, "VM limit 00:00; one hand-over"),
        (1 * HOUR, 2 * HOUR, 3, "VM limit 23:00; three hand-overs"),
        (1 * HOUR, 1 * HOUR, 5, "VM limit 23:00; 5 hand-overs"),
        (-1 * HOUR, 12 * HOUR, 1, "VM limit 21:00, which is over; one hand-over"),
    ],
)
def test_hand_overs_are_counted(left: timedelta, life: timedelta, count: int, words: str) -> None:
    outlook = outlook_of(row(), Bounds(NOW + left, life.total_seconds()), NOW, 5)
    assert outlook is not None
    assert outlook.hand_overs == count
    assert describe_outlook(outlook, NOW, UTC).partition("; ")[2] == words
    assert outlook.done == NOW + 5 * HOUR + count * timedelta(minutes=5)


@pytest.mark.parametrize(
    ("left", "words", "done"),
    [
        (0, "its machine ends before that, and it does not continue by itself", "after VM limit"),
        (2, "three hand-overs, of which 2 by itself", "after VM limit 23:00"),
        (3, "three hand-overs", "03:15 ± "),
    ],
)
def test_machine_that_ends_first_is_only_got_over_as_agreed(
    left: int, words: str, done: str
) -> None:
    outlook = outlook_of(row(), Bounds(NOW + HOUR, 2 * 3600.0), NOW, left)
    assert outlook is not None
    assert describe_outlook(outlook, NOW, UTC).endswith(f"; VM limit 23:00; {words}")
    assert describe_done(outlook, NOW, UTC).startswith(done)


@pytest.mark.parametrize(
    "told",
    [
        {"state": "succeeded"},
        {"progress": None},
        {"progress": 7},
        row(total=None),
        row(total="many"),
        row(marks=None),
        row(marks=[[1, 2, 3], "x", [None, 1], [True, True]]),
        row(time="now"),
        row(total=10**15),
    ],
)
def test_nothing_is_said_of_a_job_that_tells_too_little_or_no_sense(
    told: dict[str, object],
) -> None:
    assert outlook_of({**row(), **told}, UNBOUND, NOW, 3) is None


def test_bounds_are_those_of_the_machine() -> None:
    record = make_record()
    assert bounds_of(record, Prices({"none": 1.0})) == UNBOUND
    assert record.machine is not None
    since = record.machine.since
    tunnel = ColabTunnel("endpoint", (), keep_until=since + 12 * HOUR)
    ssh = replace(record.machine.ssh, tunnel=tunnel)
    rented = replace(record, machine=replace(record.machine, ssh=ssh, accelerator="T4"))
    prices = Prices({"T4": 1.07}, balance=18.0)
    assert bounds_of(rented, prices) == Bounds(since + 12 * HOUR, 12 * 3600.0, 1.07, 18.0)
    assert bounds_of(rented, replace(prices, only_rate=2.0)).hourly_rate == 2.0
