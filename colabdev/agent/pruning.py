"""Which of the jobs that have ended may go, on a runtime and in the copies here."""

from __future__ import annotations

from typing import Iterable, List, NamedTuple, Optional, Set

MAX_AGE_S = 30 * 86400.0
MAX_COUNT = 200


class Ended(NamedTuple):
    """A job that has ended, `ended` in seconds since 1970, or None when nobody saw it."""

    id: str
    name: str
    ended: Optional[float]


def prunable(jobs: Iterable[Ended], now: float) -> List[str]:
    """The ids of those that ended more than 30 days ago or before the newest 200; never the newest of
    its name. What nobody saw end counts as old only by its place."""
    names: Set[str] = set()
    old = []
    newest_first = sorted(jobs, key=lambda job: (job.ended or 0.0, job.id), reverse=True)
    for place, job in enumerate(newest_first):
        is_old = job.ended is not None and now - job.ended > MAX_AGE_S
        if job.name in names and (is_old or place >= MAX_COUNT):
            old.append(job.id)
        names.add(job.name)
    return old
