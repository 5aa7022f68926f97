"""Times as the formats write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colabdev.core.times import format_age, format_clock, format_exact_time, format_time, parse_time

MOMENTS = st.datetimes(
    min_value=datetime(1970, 1, 2),  # Hypothesis adds the zone.
    max_value=datetime(2999, 1, 1),
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m))),
)


@given(moment=MOMENTS)
def test_time_round_trips_to_the_second(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment.replace(microsecond=0)


@given(moment=MOMENTS)
def test_exact_time_round_trips_to_the_microsecond(moment: datetime) -> None:
    assert parse_time(format_exact_time(moment)) == moment


def test_time_is_written_in_utc() -> None:
    moment = datetime(2026, 11, 20, 23, 34, 5, 999999, tzinfo=timezone(timedelta(hours=1)))
    assert format_time(moment) == "2026-11-20T22:34:05Z"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-20T22:34:05", "2026-11-20", "1e9"])
def test_time_without_sense_or_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|time zone"):
        parse_time(text)


def test_offset_other_than_utc_is_understood() -> None:
    assert parse_time("2026-11-20T23:34:05+01:00") == datetime(2026, 11, 20, 22, 34, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86399, "23 h"),
        (86400, "1 d"),
        (200_000, "2 d"),
    ],
)
def test_age_takes_the_largest_unit(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


def test_clock_says_as_much_as_tells_the_moment() -> None:
    now, hour = datetime(2026, 11, 20, 22, tzinfo=UTC), timedelta(hours=1)
    assert format_clock(now + 5 * hour, now, UTC) == "03:00"
    assert format_clock(now + 29 * hour, now, UTC) == "Sun 03:00"
    assert format_clock(now + 300 * hour, now, UTC) == "3 Dec 10:00"
