"""What is ahead of each runtime: of the job that needs it for longest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from colabdev.core.outlook import Outlook, Prices, bounds_of, last_to_end, outlook_of

if TYPE_CHECKING:  # Every command loads this module.
    from colabdev.models import RuntimeStatus
    from colabdev.services.glances import Glance


def outlooks_of(
    runtimes: Iterable[RuntimeStatus],
    seen: Mapping[str, Glance],
    prices: Prices,
    hand_overs_left: Callable[[str], int],
) -> Mapping[str, Outlook]:
    """By the runtimes' names; one on which nothing runs that tells its steps has none. `hand_overs_left`
    of a job's id is how often that goes on by itself."""
    found = {}
    now = datetime.now(UTC)
    for record in (one.record for one in runtimes if one.record.name in seen):
        bounds = bounds_of(record, prices)
        outlooks = (
            outlook_of(row, bounds, now, hand_overs_left(str(row.get("id"))))
            for row in seen[record.name].jobs
        )
        last = last_to_end(outlooks)
        if last is not None:
            found[record.name] = last
    return found
