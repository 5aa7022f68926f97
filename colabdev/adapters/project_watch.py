"""Noticing what changes in a project on this computer: as the agent does on Linux, elsewhere by
`watchfiles`, which knows macOS and Windows."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from colabdev.agent.noticing import Noticer
from colabdev.agent.worth_watching import ANYTHING, Unwatchable, Walk, Watching

if TYPE_CHECKING:
    from watchfiles import Change

_STEP_MS = 20
_WAKE_MS = 500


def watch_project(walk: Walk) -> Noticer:
    """Notice changes from now on."""
    return Noticer(walk) if sys.platform == "linux" else Noticer(walk, SystemEvents)


class SystemEvents(Watching):
    """What the system tells of everything below the project, sorted out here."""

    how = "events"

    def __init__(self, walk: Walk) -> None:
        from watchfiles import watch  # noqa: PLC0415  On Linux it is not there.

        self._walk = walk
        self._stop = threading.Event()
        self._events: Iterator[set[tuple[Change, str]]] = watch(
            walk.root,
            watch_filter=None,
            debounce=_STEP_MS,
            step=_STEP_MS,
            rust_timeout=_WAKE_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
            stop_event=self._stop,
        )
        try:
            next(self._events)  # It begins only now.
        except OSError as exc:
            raise Unwatchable(f"the system does not tell of changes: {exc}") from exc

    def wait(self, timeout_s: float, wakes: Sequence[int] = ()) -> set[str]:
        deadline = time.monotonic() + timeout_s
        while True:
            events = next(self._events, None)
            if events is None:
                return {ANYTHING}  # The folder itself went.
            changed = {path for _, place in events for path in self._sorted_out(place)}
            if changed or time.monotonic() >= deadline:
                return changed

    def close(self) -> None:
        self._stop.set()

    def _sorted_out(self, place: str) -> Iterator[str]:
        path = os.path.relpath(place, self._walk.root).replace(os.sep, "/")
        if path == ".":
            yield ANYTHING
        elif self._walk.matters_at(path):
            # Of a folder that came or went nothing else may be told.
            yield f"{path}/" if os.path.isdir(place) else path
