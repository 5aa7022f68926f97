"""The waits grow, stay within their bounds, and differ between clients."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colabdev.core.backoff import delays


def first_delays(count: int, *, first_s: float, cap_s: float, seed: int) -> list[float]:
    return list(islice(delays(first_s=first_s, cap_s=cap_s, random=Random(seed)), count))


@given(
    first_s=st.floats(0.01, 5),
    cap_s=st.floats(0.01, 60),
    seed=st.integers(),
)
def test_each_delay_lies_between_half_and_whole_of_its_step(
    first_s: float, cap_s: float, seed: int
) -> None:
    for number, delay_s in enumerate(first_delays(12, first_s=first_s, cap_s=cap_s, seed=seed)):
        step_s = min(first_s * 2**number, cap_s)
        assert step_s / 2 <= delay_s <= step_s


def test_delays_reach_the_cap_and_stay_there() -> None:
    tail = first_delays(1000, first_s=0.5, cap_s=8, seed=1)[10:]
    assert 4 <= min(tail) < 4.1
    assert 7.9 < max(tail) <= 8


def test_delays_spread_over_the_whole_jitter() -> None:
    firsts = [first_delays(1, first_s=1, cap_s=8, seed=seed)[0] for seed in range(200)]
    assert min(firsts) < 0.55
    assert max(firsts) > 0.95


def test_same_seed_gives_the_same_delays() -> None:
    once = first_delays(20, first_s=0.5, cap_s=8, seed=7)
    assert once == first_delays(20, first_s=0.5, cap_s=8, seed=7)
    assert once != first_delays(20, first_s=0.5, cap_s=8, seed=8)


def test_delays_never_end_nor_overflow() -> None:
    assert first_delays(5000, first_s=1, cap_s=30, seed=1)[-1] == pytest.approx(22.5, abs=7.5)
