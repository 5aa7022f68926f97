"""Times as the formats write them: RFC 3339 in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from colabdev.errors import UsageError

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(min|[smhd]?)")


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


def parse_duration(text: str) -> float:
    """`90s`, `10m`, `1.5h`, `2d`, or seconds, in seconds; `UsageError` when it is none."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no time", hint="for example 90s, 10m, 1.5h or 2d")
    return float(match[1]) * _SECONDS[match[2]]


def format_age(seconds: float) -> str:
    """An age in the largest unit that fits: `8 s`, `12 min`, `3 h`, `2 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(seconds, 0))} s"
