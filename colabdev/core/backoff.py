"""How long to wait before the next try."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random


def delays(*, first_s: float, cap_s: float, random: Random) -> Iterator[float]:
    """Seconds to wait before each retry: doubling from `first_s` up to `cap_s`, with jitter.

    Each is between half and the whole of its step, so that many clients of one server part ways.
    """
    step_s = first_s
    while True:
        yield min(step_s, cap_s) * (0.5 + random.random() / 2)
        step_s = min(step_s * 2, cap_s)
