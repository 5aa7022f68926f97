"""Keeping the runtime's projects in step while an editor, or a shell, is connected to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from colabdev.errors import ColabdevError
from colabdev.ports import Keepers

if TYPE_CHECKING:
    # What a watch needs is loaded when somebody edits: a tenth of a keeper's start.
    from colabdev.services.sync_report import SyncReport
    from colabdev.services.watch import Watch

log = logging.getLogger(__name__)

GRACE_S = 30.0
"""An editor that lost its connection is back before this."""
RETRY_S = 5.0


class EditorWatch:
    """Asks the runtime whether somebody is there, and watches as long as it says so."""

    def __init__(
        self, name: str, keepers: Keepers, watches: Callable[[], Mapping[str, Callable[[], Watch]]]
    ) -> None:
        self._name = name
        self._keepers = keepers
        self._watches = watches
        """For each project's folder that is to be watched now, how to make its watch."""
        self._running: dict[str, Watch] = {}

    def run(self, stopping: threading.Event) -> None:
        """Until told to stop."""
        while not stopping.is_set():
            try:
                with closing(self._keepers.agent(self._name)) as agent:
                    for header, _ in agent.stream("sessions.follow", {"grace_s": GRACE_S}):
                        self._adjust(bool(header.get("others")))
            except ColabdevError as exc:
                # The watches wait by themselves for a runtime that is out of reach.
                log.debug("cannot learn who is on %s: %s", self._name, exc.message)
            stopping.wait(RETRY_S)

    def _adjust(self, others: bool) -> None:
        wanted = self._watches() if others else {}
        for path in self._running.keys() - wanted.keys():
            log.info("watches %s no more", path)
            self._running.pop(path).stop()
        for path in wanted.keys() - self._running.keys():
            log.info("watches %s while somebody is on %s", path, self._name)
            watch = self._running[path] = wanted[path]()
            threading.Thread(target=_run, args=(watch,), daemon=True).start()


class LogAudience:
    """Writes down what a watch does; nobody sits in front of a keeper."""

    def noted(self, sentence: str) -> None:
        log.info("%s", sentence)

    def synced(self, report: SyncReport) -> None:
        sent, received = len(report.sent), len(report.received)
        log.info("synced %s: %d sent, %d received", report.workdir, sent, received)
        if report.conflicts or report.problems:
            log.warning("%d conflicts, %d problems", len(report.conflicts), len(report.problems))

    def held(self, error: ColabdevError) -> None:
        log.warning("cannot sync now: %s", error.message)

    def resumed(self) -> None:
        log.info("syncs again")


def _run(watch: Watch) -> None:
    try:
        watch.run()
    except Exception:  # A task's boundary: the runtime is to be kept all the same.
        log.exception("bug in a watch")
