"""When a training ends, as far as the steps that it made so far can tell, and how sure that is.

The model, in units of pace (seconds a step) over blocks of equally many steps:

    pace of a block = level + noise + excess

The level wanders, so newer blocks count for more, and the farther the end is the less is known of it.
The noise averages out. The excess is what stalls and stragglers add: it is expected as often as it was
seen, but how much it will be is far less sure. Where a slow first epoch ends, the history
begins. The constants were tuned on the traces `TUNING` of `tests/support/step_traces.py`, and are
proved on others, `PROOF`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Mark = tuple[float, int]
"""A time in seconds and the step that the training was at then."""

LEAST_MARKS = 5
_MOST_BLOCKS = 24

_WARM_UP = 1.15
"""Blocks at the beginning that are slower than this many times what follows are the slow first epoch."""
_FORGETTING = 0.6
"""The weight of a block falls to 1/e over this share of the history."""
_TREND = 0.25
"""So much of the change between both halves of the history is expected to go on."""
_OUTLIER = 1.0
"""What a block is above the median by more deviations than this is excess."""
_WANDER = 0.04
"""How much the level is thought to wander over a history, as a share of it, before anything is seen."""
_WANDER_WEIGHT = 2.0
"""For how many observations of it that counts."""
_BURST = 0.04
"""What a stall that nobody has seen the like of may add, as a share of the history."""
_OF_MEDIAN = 1.05
"""From the median of |x - y| to the deviation of x, for normal x and y."""
_MOST = 1.0
"""Where a deviation is larger than this share, nothing is known anyway."""
_LOW, _HIGH = 1.07, 0.93
"""So many deviations below and above the median 5 % of the ends lie."""


@dataclass(frozen=True, slots=True)
class End:
    """A moment that is later than the true one as often as earlier, and two between which that lies
    in 90 of 100 cases; seconds, as the marks have them."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class _Pace:
    """What the history says, in seconds a step; the deviations are those of a block."""

    steps: float
    """Of a block."""
    count: int
    expected: float
    noise: float
    weights_squared: float
    """What averaging the history leaves of the noise's variance."""
    wander: float
    """Over as long a time as the history."""
    burst: float

    def deviation(self, ahead: float) -> float:
        """Of the mean pace of so many steps to come, as a share of it."""
        blocks = ahead / self.steps
        history = self.count
        noise = self.noise**2 * (1 / blocks + self.weights_squared)
        wander = self.wander**2 * (blocks / history / 3 + _FORGETTING / 2)
        burst = self.burst**2 * (1 / blocks + 1 / history)
        return min(math.sqrt(noise + wander + burst) / self.expected, _MOST)


def forecast_end(marks: Sequence[Mark], total: int, now: float) -> End | None:
    """When step `total` is done, if it goes on as it did. None where nothing can be said: fewer than
    `LEAST_MARKS` marks in a row that get on, or all steps are done."""
    history = _last_run(marks)
    if len(history) < LEAST_MARKS or history[-1][1] >= total:
        return None
    last, step = history[-1]
    ahead = total - step
    pace = _pace_of(history)
    deviation = pace.deviation(ahead)
    rest_s = ahead * pace.expected
    # Whoever is silent for longer than ever before stands still meanwhile.
    begin = last + max(now - last - _longest_gap_s(history), 0.0)
    return End(
        low=max(begin + rest_s * math.exp(-_LOW * deviation), now),
        median=max(begin + rest_s, now),
        high=max(begin + rest_s * math.exp(_HIGH * deviation), now),
    )


def _last_run(marks: Sequence[Mark]) -> list[Mark]:
    """The newest marks that get on, in time and in steps: before a step back it was another start."""
    run: list[Mark] = []
    for mark in sorted(marks):
        if run and mark[1] < run[-1][1]:
            run = []
        if not run or (mark[0] > run[-1][0] and mark[1] > run[-1][1]):
            run.append(mark)
    return run


def _longest_gap_s(history: Sequence[Mark]) -> float:
    return max(after[0] - before[0] for before, after in pairwise(history))


def _pace_of(history: Sequence[Mark]) -> _Pace:
    steps, paces = _without_warm_up(*_blocks(history))
    count, half = len(paces), len(paces) // 2
    noise = _noise(paces)
    ceiling = _middle(paces) + _OUTLIER * noise
    body = [min(pace, ceiling) for pace in paces]
    excess = [pace - kept for pace, kept in zip(paces, body, strict=True)]
    weights = _weights(count)
    level = sum(weight * pace for weight, pace in zip(weights, body, strict=True))
    change = _mean(body[-half:]) - _mean(body[:half])
    # So much of the change between both halves is noise alone.
    drift = max(change**2 - 4 * noise**2 / count, 0.0)
    wander = _WANDER_WEIGHT * (_WANDER * level) ** 2 + 3 * drift
    burst = _mean([one**2 for one in excess]) + (_BURST * level) ** 2 * count
    return _Pace(
        steps=steps,
        count=count,
        # However fast it became, it does not go on to nothing.
        expected=max(level + _TREND * change, level / 2) + _mean(excess),
        noise=noise,
        weights_squared=sum(weight**2 for weight in weights),
        wander=math.sqrt(wander / (_WANDER_WEIGHT + 1)),
        burst=math.sqrt(burst),
    )


def _blocks(history: Sequence[Mark]) -> tuple[float, list[float]]:
    """The history in blocks of equally many steps: how many, and the pace of each."""
    count = min(len(history) - 1, _MOST_BLOCKS)
    first, last = history[0][1], history[-1][1]
    size = (last - first) / count
    times = [_time_of(history, first + number * size) for number in range(count + 1)]
    return size, [(after - before) / size for before, after in pairwise(times)]


def _time_of(history: Sequence[Mark], step: float) -> float:
    """When that step was made, as if those between two marks were equally fast."""
    number = bisect_left(history, step, lo=1, hi=len(history) - 1, key=lambda mark: mark[1])
    (before, low), (after, high) = history[number - 1], history[number]
    return before + (after - before) * (step - low) / (high - low)


def _without_warm_up(size: float, paces: list[float]) -> tuple[float, list[float]]:
    """Without the blocks at the beginning that are slow, and the one in which that ends; at least half
    of them stay."""
    half = len(paces) // 2
    usual = _middle(paces[half:])
    slow = next((n for n, pace in enumerate(paces) if pace <= _WARM_UP * usual), half)
    return size, paces[min(slow + 1, half) if slow else 0 :]


def _noise(paces: Sequence[float]) -> float:
    """The usual deviation of a block from its neighbours: drift and single stalls have no part in it."""
    steps = [abs(after - before) for before, after in pairwise(paces)]
    return _middle(steps) * _OF_MEDIAN


def _weights(count: int) -> list[float]:
    """Of the blocks, oldest first; 1 together."""
    raw = [math.exp((number - count) / (_FORGETTING * count)) for number in range(count)]
    return [weight / sum(raw) for weight in raw]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _middle(values: Sequence[float]) -> float:
    """The median; the higher one of two."""
    return sorted(values)[len(values) // 2]
