"""All places where a test may end a process as `kill -9` would; see `agent/crash_points.py`."""

from __future__ import annotations

from colabdev.agent import crash_points as agent

CRASH_POINTS = agent.AGENT_CRASH_POINTS | {
    "colab.assigned",
    "colab.begun",
    "colab.noted",
    "colab.set_up",
    "colab.unassigned",
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
    "keeper.locked",
    "keeper.announced",
    "keeper.linked",
    "keeper.asked",
    "keeper.ending",
    "kill.emptied",
    "kill.ended",
    "kill.frozen",
    "kill.marked",
    "pull.placed",
    "pull.received",
    "recovery.chosen",
    "recovery.claimed",
    "recovery.counted",
    "recovery.machine",
    "recovery.recorded",
    "recovery.started",
    "repair.copied",
    "run.recorded",
    "run.started",
    "state.staged",
    "state.replaced",
    "sync.applied",
    "sync.received",
    "sync.writing",
}


def crash_point(name: str) -> None:
    """Die here if a test asked for it."""
    assert name in CRASH_POINTS, f"{name} is not listed"
    agent.crash_point(name)
