"""What `sync --watch` does, a line for each sync; with `--json` one document on each line."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from colabdev.agent import changes
from colabdev.cli import render_sync
from colabdev.cli.output import SCHEMA, line, printable, say
from colabdev.core.sizes import format_size
from colabdev.core.times import format_time
from colabdev.services.sync_report import is_note

if TYPE_CHECKING:
    from colabdev.core.reconcile import Action
    from colabdev.errors import ColabdevError
    from colabdev.services.sync_report import SyncReport

_NAMED = 3
"""So many files are named; of more it is said how many."""


class WatchInWords:
    """For people: `services.watch.Audience`."""

    def noted(self, sentence: str) -> None:
        say(f"  {sentence}")

    def synced(self, report: SyncReport) -> None:
        line(f"{_clock()}  {_what(report)} in {report.seconds:.2f} s")
        render_sync.details(report)

    def held(self, error: ColabdevError) -> None:
        say(f"{_clock()}  waits: {error.message}")
        if error.hint:
            say(f"  next: {error.hint}")

    def resumed(self) -> None:
        say(f"{_clock()}  goes on; nothing had changed")


class WatchAsJson:
    """For scripts."""

    def noted(self, sentence: str) -> None:
        self._print("noted", {"message": sentence})

    def synced(self, report: SyncReport) -> None:
        self._print("synced", render_sync.to_json(report))

    def held(self, error: ColabdevError) -> None:
        self._print("waits", {"error": error.to_json()})

    def resumed(self) -> None:
        self._print("resumed", {})

    def _print(self, event: str, content: dict[str, Any]) -> None:
        now = format_time(datetime.now(UTC))
        line(json.dumps({"schema": SCHEMA, "time": now, "event": event, **content}))


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def _what(report: SyncReport) -> str:
    done = [action for action in report.actions if not is_note(action)]
    gone = [action for action in done if action.change.op == changes.DELETE]
    moved = [action for action in done if action.change.op != changes.DELETE]
    parts = [
        f"{sign} {_named(actions)}{_size(actions)}"
        for sign, actions in (
            ("->", [action for action in moved if not action.here]),
            ("<-", [action for action in moved if action.here]),
            ("deleted", gone),
        )
        if actions
    ]
    return ", ".join(parts) or f"{report.unchanged} unchanged"


def _named(actions: Sequence[Action]) -> str:
    if len(actions) > _NAMED:
        return f"{len(actions)} files"
    return " ".join(printable(action.path) for action in actions)


def _size(actions: Sequence[Action]) -> str:
    size = sum(action.content_bytes for action in actions)
    return f" ({format_size(size)})" if size else ""
