"""Where a command dies while a runtime of Colab's is asked for, set up or given back."""

from __future__ import annotations

ASKED = ("colab.begun", "colab.assigned", "colab.noted", "colab.set_up")
GIVEN_BACK = ("colab.unassigned",)
COLAB = (*ASKED, *GIVEN_BACK)

CONNECT = (
    *("state.staged", "connect.recorded", "state.replaced"),
    *ASKED,
    *("connect.started", "connect.addressed", "connect.host_entry"),
    *("connect.keeper", "connect.prepared"),
)
"""All of `connect`, in an order in which each is come to by a command that goes on after the last."""

DOWN = ("down.marked", "down.keeper_stopped", *GIVEN_BACK, "down.released", "down.host_entry")
"""Likewise of `down`."""
