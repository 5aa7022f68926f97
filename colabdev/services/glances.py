"""A quick look into runtimes that are up: what runs there, what it takes, and how Drive stands."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

from colabdev.core.checkpoints import Durable, durable_of
from colabdev.core.job_records import is_started_by, parse_job_list
from colabdev.core.usage import time_of
from colabdev.errors import ColabdevError
from colabdev.models import JobState, ProjectLink, RuntimeRecord
from colabdev.ports import AgentStream, Keepers
from colabdev.services.checkpoint_lists import jobs_on
from colabdev.services.safekeeping import describe_mirror

TIMEOUT_S = 3.0
"""A way that was cut is noticed later; nobody waits for that here."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What was seen."""

    running: int
    """How many of its jobs go on."""
    metrics: Mapping[str, object] | None
    """The newest row of a job that runs; what it says of the machine holds for all."""
    mirrors: Sequence[tuple[ProjectLink, str, bool]] = ()
    """How Drive stands with each project: in words, and whether well."""
    durable: Durable | None = None
    """How safe its newest checkpoint is."""
    stays: str = ""
    """Why it has not given itself back, which it was to do; "" when there is nothing to say."""


class Glances:
    """Looks into several runtimes at once."""

    def __init__(self, keepers: Keepers) -> None:
        self._keepers = keepers

    def look(self, runtimes: Sequence[RuntimeRecord]) -> Mapping[str, Glance]:
        """What was seen by the runtimes' names; who did not answer in time is left out."""
        seen: dict[str, Glance] = {}
        threads = [
            threading.Thread(target=self._look, args=(runtime, seen), daemon=True)
            for runtime in runtimes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
        return dict(seen)

    def _look(self, runtime: RuntimeRecord, seen: dict[str, Glance]) -> None:
        try:
            with closing(self._keepers.agent(runtime.name)) as agent:
                listed = parse_job_list(agent.request("job.list")[0])
                has_drive = runtime.machine is not None and runtime.machine.drive_dir is not None
                links = runtime.projects if has_drive else ()
                mirrors = [(link, *describe_mirror(agent, link)) for link in links]
                durable = _durable(agent, runtime)
                stays = _describe_lease(agent) if runtime.can_leave else ""
        except ColabdevError:
            return  # As if it had not answered: how it stands is said beside it.
        rows = [
            row
            for row in listed.rows.values()
            if row.get("state") == JobState.RUNNING and is_started_by(row, runtime)
        ]
        metrics = [row["metrics"] for row in rows if isinstance(row.get("metrics"), Mapping)]
        newest = max(metrics, key=time_of, default=None)
        seen[runtime.name] = Glance(len(rows), newest, mirrors, durable, stays)


def _durable(agent: AgentStream, runtime: RuntimeRecord) -> Durable | None:
    with suppress(ColabdevError):  # All else that was seen is worth saying.
        return durable_of(jobs_on(agent, runtime), time.time())
    return None


def _describe_lease(agent: AgentStream) -> str:
    told, _ = agent.request("lease.status")
    if not told.get("why") or not told.get("problem"):
        return ""
    return f"{told['why']}, and it stays: {told['problem']}"
