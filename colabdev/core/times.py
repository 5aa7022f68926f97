"""Times as the formats write them: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo


def format_time(moment: datetime) -> str:
    """`2026-11-20T22:34:05Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_exact_time(moment: datetime) -> str:
    """The same to the microsecond, where the order of two moments matters."""
    return moment.astimezone(UTC).isoformat()


def parse_time(text: str) -> datetime:
    """The moment that was written; ValueError when it is none, or has no time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> int:
    """The seconds of `30s`, `90m`, `8h` or `2d`; ValueError for anything else."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS_S or not (number.isascii() and number.isdigit() and int(number)):
        raise ValueError(f"{text!r} is no duration")
    return int(number) * _UNITS_S[unit]


def format_age(seconds: float) -> str:
    """An age in the largest unit that fits: `8 s`, `12 min`, `3 h`, `2 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(seconds, 0))} s"


_SAME_DAY = timedelta(hours=12)
_SAME_WEEK = timedelta(days=6)


def format_clock(moment: datetime, now: datetime, zone: tzinfo | None = None) -> str:
    """`03:10`, `Sun 03:10` or `2 Dec 03:10`: as much of it as tells which moment is meant, by the clocks
    of `zone` (None: this computer's)."""
    there, here = moment.astimezone(zone), now.astimezone(zone)
    clock = f"{there:%H:%M}"
    if there.date() == here.date() or abs(moment - now) < _SAME_DAY:
        return clock
    return (
        f"{there:%a} {clock}"
        if abs(moment - now) < _SAME_WEEK
        else f"{there.day} {there:%b} {clock}"
    )
