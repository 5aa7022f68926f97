"""Ending the runtime from within."""

from __future__ import annotations

from . import _daemon


def unassign() -> None:
    """Give the runtime back. It may end before this returns."""
    _daemon.ask("TBE_RUNTIME_ADDR", "/unassign")
