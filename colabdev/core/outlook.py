"""What is ahead of a job that runs: its end, its machine's, how often it must move, what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

from colabdev.core.forecast import Mark, forecast_end
from colabdev.core.times import format_clock
from colabdev.models import RuntimeRecord

HAND_OVER_S = 300.0
"""What moving to another machine takes: one is started, set up, and given code and checkpoint."""
_LONGEST_S = 10 * 365 * 86400.0
"""What ends later makes no sense as a moment."""
_COUNTED = ("no hand-over", "one hand-over", "two hand-overs", "three hand-overs")


@dataclass(frozen=True, slots=True)
class Prices:
    """What machines cost in compute units, and what there is of those; None for what is not known."""

    hourly_rates: Mapping[str, float] = field(default_factory=dict)
    """By accelerator; `none` is a machine without."""
    only_rate: float | None = None
    """What the account pays in an hour, where it has one machine alone: the provider's own number."""
    balance: float | None = None

    def rate_of(self, accelerator: str | None) -> float | None:
        """What a machine with that costs an hour."""
        return self.only_rate or self.hourly_rates.get(accelerator or "none")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a job's machine may live and cost; None for what nobody knows or nothing limits."""

    limit: datetime | None = None
    life_s: float = 0.0
    """How long each further machine lives."""
    hourly_rate: float | None = None
    """Compute units."""
    balance: float | None = None


UNBOUND = Bounds()


@dataclass(frozen=True, slots=True)
class Outlook:
    """What can be said now of a job that tells its steps."""

    job: str
    step: int
    total_steps: int
    low: datetime
    done: datetime
    high: datetime
    """Of 100 such jobs 90 end between `low` and `high`, half of all before `done`."""
    limit: datetime | None
    hand_overs: int
    """How often it must go on on another machine for that."""
    hand_overs_left: int
    """How often it does by itself."""
    units: float | None
    """What it still costs."""
    balance: float | None

    @property
    def gets_there(self) -> bool:
        """Whether it comes to its end by itself, on as many machines as were agreed to."""
        return self.hand_overs <= self.hand_overs_left


def bounds_of(record: RuntimeRecord, prices: Prices) -> Bounds:
    """The bounds of a runtime: only those that are rented have any."""
    machine = record.machine
    tunnel = machine.ssh.tunnel if machine else None
    if machine is None or tunnel is None:
        return UNBOUND
    life_s = (tunnel.keep_until - machine.since).total_seconds()
    rate = prices.rate_of(machine.accelerator)
    return Bounds(tunnel.keep_until, max(life_s, 0.0), rate, prices.balance)


def outlook_of(
    row: Mapping[str, object], bounds: Bounds, now: datetime, hand_overs_left: int
) -> Outlook | None:
    """Of a job as its runtime tells of it; None when it does not run, tells too little, or no sense."""
    told = row.get("progress")
    if row.get("state") != "running" or not isinstance(told, Mapping):
        return None
    marks, total = list(_marks(told.get("marks"))), told.get("total")
    time = _number(told.get("time"))
    if not marks or time is None or not isinstance(total, int):
        return None
    end = forecast_end(marks, total, time)
    if end is None:
        return None
    # The runtime's clock is another one; what is ahead is as long by ours.
    low_s, done_s, high_s = (moment - time for moment in (end.low, end.median, end.high))
    if high_s > _LONGEST_S:
        return None
    low, _ = _with_hand_overs(low_s, bounds, now)
    done, hand_overs = _with_hand_overs(done_s, bounds, now)
    high, _ = _with_hand_overs(high_s, bounds, now)
    hours = (done - now).total_seconds() / 3600
    return Outlook(
        job=str(row.get("id")),
        step=marks[-1][1],
        total_steps=total,
        low=low,
        done=done,
        high=high,
        limit=bounds.limit,
        hand_overs=hand_overs,
        hand_overs_left=hand_overs_left,
        units=None if bounds.hourly_rate is None else bounds.hourly_rate * hours,
        balance=bounds.balance,
    )


def last_to_end(outlooks: Iterable[Outlook | None]) -> Outlook | None:
    """The one that its machine is needed for longest."""
    known = [one for one in outlooks if one is not None]
    return max(known, key=lambda one: one.done, default=None)


def describe_outlook(outlook: Outlook, now: datetime, zone: tzinfo | None = None) -> str:
    """`done 03:10 ± 12 min; VM limit 02:44; one hand-over; 21.5 units, you have 18`, by the clocks of
    `zone` (None: this computer's)."""
    return "; ".join(_sentences(outlook, now, zone))


def describe_done(outlook: Outlook, now: datetime, zone: tzinfo | None = None) -> str:
    """`03:10 ± 12 min`, or what comes before that."""
    if outlook.limit is None or outlook.gets_there:
        return describe_end(outlook, now, zone)
    return f"after VM limit {format_clock(outlook.limit, now, zone)}"


def describe_end(outlook: Outlook, now: datetime, zone: tzinfo | None = None) -> str:
    """`03:10 ± 12 min`."""
    half_s = (outlook.high - outlook.low).total_seconds() / 2
    return f"{format_clock(outlook.done, now, zone)} ± {_format_width(half_s)}"


def _sentences(outlook: Outlook, now: datetime, zone: tzinfo | None) -> Iterator[str]:
    yield f"done {describe_end(outlook, now, zone)}"
    if outlook.limit is not None:
        over = "" if outlook.limit > now else ", which is over"
        yield f"VM limit {format_clock(outlook.limit, now, zone)}{over}"
    if outlook.hand_overs:
        yield _describe_hand_overs(outlook.hand_overs, outlook.hand_overs_left)
    if outlook.units is not None:
        have = "" if outlook.balance is None else f", you have {outlook.balance:.3g}"
        yield f"{outlook.units:.1f} units{have}"


def _describe_hand_overs(count: int, left: int) -> str:
    if left == 0:
        return "its machine ends before that, and it does not continue by itself"
    counted = _COUNTED[count] if count < len(_COUNTED) else f"{count} hand-overs"
    return counted if count <= left else f"{counted}, of which {left} by itself"


def _with_hand_overs(ahead_s: float, bounds: Bounds, now: datetime) -> tuple[datetime, int]:
    """When work of so many seconds is done, if it moves at each machine's limit; and how often."""
    if bounds.limit is None:
        return now + timedelta(seconds=ahead_s), 0
    left_s = max((bounds.limit - now).total_seconds(), 0.0)
    if ahead_s <= left_s:
        return now + timedelta(seconds=ahead_s), 0
    # What a machine's beginning takes is lost for the work.
    each_s = max(bounds.life_s - HAND_OVER_S, HAND_OVER_S)
    count = 1 + int((ahead_s - left_s) // each_s)
    return now + timedelta(seconds=ahead_s + count * HAND_OVER_S), count


def _format_width(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _marks(rows: object) -> Iterator[Mark]:
    """What a runtime tells as marks, as far as it makes sense."""
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, list) and len(row) == 2:
            time, step = _number(row[0]), _number(row[1])
            if time is not None and step is not None:
                yield time, int(step)


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e15 else None  # type: ignore[operator,arg-type]
