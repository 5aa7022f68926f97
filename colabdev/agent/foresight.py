"""Before a machine ends its jobs are asked to save, and what they save is made safe: once for each
end."""

from __future__ import annotations

import time
from typing import Any, Dict, Optional

from . import asking, manifest
from .daemons import Child
from .drive import explain


class Foresight:
    """The lease's look ahead. A child does the work, which a Drive may hang."""

    def __init__(self) -> None:
        self._child: Optional[Child] = None
        self._foreseen = 0.0
        """The end that its jobs were asked for."""

    def look(self, lease: Dict[str, Any]) -> None:
        """Begin when it is time. An end that is put off is foreseen anew."""
        if self._child is not None and self._child.has_ended():
            self._child.result({})
            self._child = None
        now = time.time()
        ends = [float(lease[key]) for key in ("until", "limit") if lease.get(key) is not None]
        end = min((end for end in ends if end > now), default=None)
        if self._child or end is None or end == self._foreseen or end - now > manifest.MOST_LEAD_S:
            return
        runs = asking.running()
        if runs and end - now <= asking.lead_s(runs):
            self._foreseen, timeout_s = end, end - now
            self._child = Child(lambda: _save(timeout_s), explain)


def _save(timeout_s: float) -> Dict[str, Any]:
    *_, (told, _body) = asking.save({"timeout_s": timeout_s}, b"")
    return told
