"""Named places where a test may end the process as `kill -9` would: promise 8 is tried at each.

`COLABDEV_CRASH_AT=<name>` ends it when that place is reached; with `<name>@<file>` only once, when that
file can be removed. Nothing runs after it: no `finally`, no flush, no lock is released by us.
"""

from __future__ import annotations

import os

_JOURNALED = (
    *("found", "sending", "accepted", "committed", "published", "confirmed"),
    *("unproven", "failed", "refuted", "recorded", "removed", "gone"),
)
"""What is written into the journal of checkpoints; before each and after each is a place."""

AGENT_CRASH_POINTS = frozenset(
    {
        "agent.journaled",
        "agent.staged",
        "agent.placed",
        "agent.applied",
        "agent.saved",
        "agent.job_staged",
        "agent.job_made",
        "agent.job_started",
        "handover.handed",
        "handover.stopped",
        "handover.flushed",
        "supervisor.forked",
        "supervisor.recorded",
        "supervisor.released",
        "supervisor.unsettled",
    }
    | {
        "checkpoint.{}_{}".format(one, when)
        for one in _JOURNALED
        for when in ("unwritten", "written")
    }
)
"""Those of what runs on a runtime; `colabdev/crash_points.py` has all."""


def crash_point(name: str) -> None:
    """Die here if a test asked for it."""
    wanted, _, once = os.environ.get("COLABDEV_CRASH_AT", "").partition("@")
    if wanted != name:
        return
    if once:
        try:
            os.unlink(once)
        except FileNotFoundError:
            return
    os._exit(137)
