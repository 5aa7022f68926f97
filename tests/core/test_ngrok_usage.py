"""The count of what went through ngrok, and what it stands in the way of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from colabdev.adapters.ngrok_use import NgrokUse
from colabdev.core.ngrok_usage import MonthUse, check_transfer, parse_use, warn_of_use
from colabdev.errors import GuardHalted
from colabdev.models.tunnels import TunnelUse
from tests.support.records import make_record

BY_NGROK = replace(make_record(), tunnel=TunnelUse("ngrok"))


def test_count_is_of_this_month_and_survives_nonsense(tmp_path: Path) -> None:
    now = [datetime(2026, 11, 30, tzinfo=UTC)]
    use = NgrokUse(tmp_path, lambda: now[0])
    assert use.add(5, 1) == MonthUse("2026-11", 5, 1)
    assert NgrokUse(tmp_path, lambda: now[0]).add(7, 0) == MonthUse("2026-11", 12, 1)
    now[0] = datetime(2026, 12, 1, tzinfo=UTC)
    assert use.read() == MonthUse("2026-12")
    for text in ("", "[]", "{", '{"schema": 1, "month": "2026-12", "bytes": "many"}'):
        assert parse_use(text, "2026-12") == MonthUse("2026-12")


@pytest.mark.parametrize(
    ("size_bytes", "connections", "share"),
    [(699_999_999, 0, ""), (700_000_000, 0, "70%"), (0, 3_500, "70%"), (990_000_000, 9, "99%")],
)
def test_warning_comes_at_seventy_percent(size_bytes: int, connections: int, share: str) -> None:
    warning = warn_of_use(MonthUse("2026-11", size_bytes, connections))
    assert warning.startswith(f"{share} of what ngrok's free plan has" if share else "")
    assert bool(warning) == bool(share)
    assert not share or "what ssh and editors carry beside it is not counted" in warning


def test_large_transfers_are_asked_about_by_ngrok_only() -> None:
    for use, size_bytes in ((0, 100_000_000), (999_000_000, 2_000_000), (2_000_000_000, 1)):
        so_far = MonthUse("2026-11", use)
        with pytest.raises(GuardHalted, match="would go through ngrok"):
            check_transfer(BY_NGROK, lambda so_far=so_far: so_far, size_bytes)  # type: ignore[misc]
    check_transfer(BY_NGROK, lambda: MonthUse("2026-11", 999_000_000), 1_000_000)
    check_transfer(BY_NGROK, lambda: MonthUse("2026-11", 2_000_000_000), 0)
    check_transfer(make_record(), lambda: pytest.fail("nobody counts"), 10**12)
