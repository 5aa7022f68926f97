"""Looks after Drive on a Colab runtime: notices a mount that is gone, dead or hung; has it mended."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from colabdev.errors import ColabdevError

_SEEN = {"absent": "was not mounted any more", "dead": "had died", "hung": "did not answer"}

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 60.0
RETRY_CAP_S = 600.0
PATIENT_LOOKS = 5
"""A mount that does not answer may only be slow, and mending it breaks off whoever waits for it."""


class DriveWatch:
    """Runs until stopped. `notice` says what is or was wrong, for the user; "" when nothing."""

    def __init__(
        self,
        *,
        look: Callable[[], str],
        mend: Callable[[], str],
        interval_s: float = LOOK_INTERVAL_S,
    ) -> None:
        """`look` says how the mount is: mounted, absent, dead or hung. `mend` mounts it again and
        returns the folder with what was written in its place, or "". Both raise `ColabdevError`."""
        self._look = look
        self._mend = mend
        self._interval_s = interval_s
        self._hung_looks = 0
        self.notice = ""

    def run(self, stopping: threading.Event) -> None:
        delay_s = self._interval_s
        while not stopping.is_set():
            try:
                is_well = self._take_care()
            except ColabdevError as exc:
                log.warning("cannot look after Drive: %s", exc.message)
                is_well = True  # Nothing is known to be wrong, only nobody can be asked.
            delay_s = self._interval_s if is_well else min(delay_s * 2, RETRY_CAP_S)
            stopping.wait(delay_s)

    def _take_care(self) -> bool:
        """Whether Drive is of use now, as far as that is known."""
        how = self._look()
        if how == "mounted" and self._hung_looks:
            self._say("")
        self._hung_looks = self._hung_looks + 1 if how == "hung" else 0
        if how == "mounted":
            return True
        if 0 < self._hung_looks < PATIENT_LOOKS:
            self._say("Drive does not answer; it is given some minutes")
            return True
        seen = _SEEN.get(how, how)
        try:
            aside = self._mend()
        except ColabdevError as exc:
            self._say(f"Drive {seen}, and cannot be mounted: {exc.message}; {exc.hint}")
            return False
        kept = (
            f"; what was written in its place was copied there, and is in {aside}" if aside else ""
        )
        self._say(f"Drive {seen}; mounted again at {datetime.now(UTC):%H:%M} UTC{kept}")
        return True

    def _say(self, notice: str) -> None:
        if notice != self.notice:
            log.warning("%s", notice)
        self.notice = notice
