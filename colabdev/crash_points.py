"""Named places where a test may end the process as `kill -9` would: promise 8 is tried at each.

`COLABDEV_CRASH_AT=<name>` ends it when that place is reached. Nothing runs after it: no `finally`, no
flush, no lock is released by us.
"""

from __future__ import annotations

import os

CRASH_POINTS = frozenset(
    {
        "connect.recorded",
        "connect.started",
        "connect.addressed",
        "connect.host_entry",
        "connect.keeper",
        "connect.prepared",
        "down.marked",
        "down.keeper_stopped",
        "down.released",
        "down.host_entry",
        "repair.copied",
        "run.recorded",
        "run.started",
        "state.staged",
        "state.replaced",
        "sync.received",
        "sync.writing",
    }
)


def crash_point(name: str) -> None:
    """Die here if a test asked for it."""
    assert name in CRASH_POINTS, f"{name} is not listed"
    if os.environ.get("COLABDEV_CRASH_AT") == name:
        os._exit(137)
