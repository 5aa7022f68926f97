"""When a training ends: proved on trainings other than those that the constants were tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import pytest

from colabdev.core.forecast import End, Mark, forecast_end
from tests.support.step_traces import PROOF, TUNING, Trace, World, traces

STEADY: list[Mark] = [(10.0 * step, step) for step in range(1, 41)]


def forecasts(worlds: Sequence[World], count: int, seed: int) -> list[tuple[Trace, End]]:
    found = [
        (one, forecast_end(one.marks, one.total, one.now)) for one in traces(worlds, count, seed)
    ]
    return [(one, end) for one, end in found if end is not None]


def coverage(told: Sequence[tuple[Trace, End]]) -> float:
    """The share of the ends that lie where they were told to."""
    return sum(end.low <= one.end <= end.high for one, end in told) / len(told)


def width(told: Sequence[tuple[Trace, End]]) -> float:
    """How wide the usual interval is, as a share of the time that was still to come."""
    widths = sorted((end.high - end.low) / (one.end - one.now) for one, end in told)
    return widths[len(widths) // 2]


def test_ninety_of_a_hundred_ends_lie_where_they_are_told_to() -> None:
    told = forecasts([PROOF], 500, seed=2026)
    assert len(told) >= 475, "one that says nothing is never wrong"
    assert 0.85 <= coverage(told) <= 0.95
    assert width(told) <= 0.25
    late = sum(one.end > end.median for one, end in told) / len(told)
    assert 0.4 <= late <= 0.6, "the median is one"


def test_proof_is_of_other_trainings_than_those_it_was_tuned_on() -> None:
    for tuned in TUNING:
        for field in fields(World):
            (low, high), (least, most) = getattr(tuned, field.name), getattr(PROOF, field.name)
            assert field.name == "seen" or high < least or most < low, field.name


def test_steady_training_ends_when_the_pace_says() -> None:
    end = forecast_end(STEADY, 100, 400.0)
    assert end is not None
    assert end.median == pytest.approx(1000.0)
    assert 950 < end.low < end.median < end.high < 1050


def test_stall_under_way_puts_the_end_off() -> None:
    before, after = forecast_end(STEADY, 100, 400.0), forecast_end(STEADY, 100, 700.0)
    assert before is not None
    assert after is not None
    assert after.median - before.median == pytest.approx(290.0)


def test_only_what_came_after_a_step_back_counts() -> None:
    again = [(400.0 + 5.0 * number, 10 + number) for number in range(1, 21)]
    end = forecast_end([*STEADY, *again], 100, 500.0)
    assert end is not None
    assert end.median == pytest.approx(500.0 + 70 * 5.0)


@pytest.mark.parametrize(
    ("marks", "total"),
    [
        ([], 100),
        (STEADY[:4], 100),
        (STEADY, 40),
        (STEADY, 0),
        ([(400.0, step) for step in range(40)], 100),
        ([(10.0 * number, 7) for number in range(40)], 100),
    ],
)
def test_nothing_is_said_of_what_says_nothing(marks: list[Mark], total: int) -> None:
    assert forecast_end(marks, total, 400.0) is None


def test_wild_histories_are_borne() -> None:
    """A pace that falls or rises a millionfold, and marks at the ends of what numbers are."""
    wild = [
        [(1e6 - 1e6 * 0.5**number, number) for number in range(1, 20)],
        [(2.0**number, number) for number in range(1, 40)],
        [(float(number), number**9) for number in range(1, 40)],
        [(1e14 + number, number) for number in range(1, 40)],
    ]
    for marks in wild:
        end = forecast_end(marks, 10**16, marks[-1][0])
        assert end is not None
        assert marks[-1][0] <= end.low <= end.median <= end.high
