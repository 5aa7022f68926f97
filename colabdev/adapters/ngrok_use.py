"""The count of what went through ngrok this month: one small file for all runtimes of this computer."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from colabdev.adapters.files import write_atomic
from colabdev.core.ngrok_usage import MonthUse, format_use, month_of, parse_use

_LOCK_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class NgrokUse:
    """`<state>/ngrok-use.json`. A count that cannot be kept is in nobody's way."""

    def __init__(
        self, state_dir: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._file = state_dir / "ngrok-use.json"
        self._now = now

    def read(self) -> MonthUse:
        """This month's."""
        text = ""
        with contextlib.suppress(OSError):
            text = self._file.read_text(encoding="ascii", errors="replace")
        return parse_use(text, month_of(self._now()))

    def add(self, size_bytes: int, connections: int) -> MonthUse:
        """This month's, with more of it."""
        try:
            with FileLock(self._file.with_suffix(".lock"), timeout=_LOCK_TIMEOUT_S, mode=0o600):
                use = self.read().plus(size_bytes, connections)
                write_atomic(self._file, format_use(use).encode("ascii"))
                return use
        except (OSError, Timeout) as exc:
            _log.warning("cannot count what goes through ngrok: %s", exc)
            return self.read().plus(size_bytes, connections)
