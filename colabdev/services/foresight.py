"""Before a runtime ends its jobs are asked to save, and what they save is made safe: the keeper's part.

A rented runtime does it alone as well (`agent/foresight.py`), as far as it knows its end; what the
account still has only this computer knows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from colabdev.agent.manifest import MOST_LEAD_S
from colabdev.errors import ColabdevError
from colabdev.models import Phase, RuntimeRecord
from colabdev.ports import AgentStream, RuntimeStore

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LOOK_AGAIN_S = 15.0
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Foresight:
    """Looks at the runtime of that name."""

    name: str
    runtimes: RuntimeStore
    open_agent: Callable[[], AgentStream]
    funds_end: Callable[[], datetime | None]
    """When nothing is left to pay it with; None for never, or where nobody knows."""
    is_unpaid: Callable[[], bool] = lambda: False
    """Whether what it may cost is used up, so that it is let go once its jobs have saved."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    notice: str = ""
    """What could not be made safe, for the user."""
    have_saved: bool = field(default=False, init=False)
    """Its jobs, as far as they could, since it is unpaid."""
    _foreseen: datetime = field(default=_NEVER, init=False)

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping`."""
        pause_s = _LOOK_S
        while not stopping.wait(pause_s):
            try:
                self.look()
            except ColabdevError as exc:
                log.info("cannot have jobs save: %s", exc.message)
            pause_s = _LOOK_AGAIN_S

    def look(self) -> None:
        """Ask its jobs to save if it is time for that. It takes an agent only when it may be."""
        record = self.runtimes.load(self.name)
        if record is None or record.phase is not Phase.UP:
            return
        self._look_at_cost()
        end, now = self._end_of(record), self.now()
        if end is None or not now < end <= now + timedelta(seconds=MOST_LEAD_S):
            return
        if end <= self._foreseen:
            return
        with closing(self.open_agent()) as agent:
            told, _ = agent.request("checkpoint.lead")
            lead = timedelta(seconds=float(str(told.get("lead_s"))))
            # What the balance lasts for is a somewhat other moment at each look.
            is_new = self._foreseen == _NEVER or end > self._foreseen + lead
            if told.get("jobs") and end - now <= lead and is_new:
                self._foreseen = end
                self._save(agent, (end - now).total_seconds())

    def _look_at_cost(self) -> None:
        if not self.is_unpaid():
            self.have_saved = False
        elif not self.have_saved:
            with closing(self.open_agent()) as agent:
                told, _ = agent.request("checkpoint.lead")
                if told.get("jobs"):
                    self._save(agent, float(str(told.get("lead_s"))))
            self.have_saved = True

    def _end_of(self, record: RuntimeRecord) -> datetime | None:
        tunnel = record.machine.ssh.tunnel if record.machine else None
        if tunnel is None:
            return None
        return min(filter(None, (tunnel.keep_until, self.funds_end())))

    def _save(self, agent: AgentStream, timeout_s: float) -> None:
        for header, _ in agent.stream("checkpoint.save", {"timeout_s": timeout_s}):
            if header.get("end"):
                jobs = header.get("jobs")
                told = [_describe(row) for row in (jobs if isinstance(jobs, list) else [])]
                self.notice = "; ".join(filter(None, told))
                log.info("%s ends soon: %s", self.name, self.notice or "its jobs have saved")
                return


def _describe(told: object) -> str:
    """What went wrong with one job; "" when it saved, and that is as safe as its stores can make it."""
    if not isinstance(told, dict) or not told.get("problem"):
        return ""
    return f"{told.get('job')} did not save before its machine's end: {told['problem']}"
