"""Goes on with jobs whose machine died. It decides nothing and makes nothing itself: it types
`colabdev run --continue`, which may be killed at any moment, as this keeper may."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from colabdev.core.recovery import Decision, Verdict, decide, give_up
from colabdev.errors import ColabdevError
from colabdev.models import JobRecord
from colabdev.services.recovery_cases import RecoveryCases

log = logging.getLogger(__name__)

LOOK_S = 1.0
LOOK_AGAIN_S = 10.0
"""While the machine is there only a start that was cut short is looked for."""
RETRY_FIRST_S = 2.0
RETRY_CAP_S = 300.0
MOST_DEATHS = 8
"""A command that ends so often without a word of why is not typed any more."""

TypeCommand = Callable[[JobRecord], None]
"""Types it for that job and waits for its end; what came of it stands in state files."""


@dataclass(slots=True, kw_only=True)
class Continuing:
    """Looks at state files alone."""

    name: str
    cases: RecoveryCases
    type_command: TypeCommand
    is_lost: Callable[[], bool]
    """The machine is gone for certain."""
    was_let_go: Callable[[], str]
    """Why it was let go before its time, "" when it was not: else its end is no death."""
    clock: Callable[[], float] = time.monotonic
    next_look: float = float("-inf")
    deaths: dict[str, int] = field(default_factory=dict)
    """By job: how often in a row the command ended without a word."""
    not_before: dict[str, float] = field(default_factory=dict)

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping`."""
        while not stopping.wait(LOOK_S):
            if not self.is_lost() and self.clock() < self.next_look:
                continue
            try:
                self.look()
                is_open = self.is_needed()
            except ColabdevError as exc:
                log.warning("%s", exc.message)  # Unreadable for now: nothing follows from that.
                is_open = False
            self.next_look = self.clock() + (0.0 if is_open else LOOK_AGAIN_S)

    def is_needed(self) -> bool:
        """Whether a job without a machine waits for this keeper."""
        try:
            return any(
                decision.verdict in (Verdict.GO_ON, Verdict.WAIT)
                for _, decision in self.cases.decisions(self.name)
            )
        except ColabdevError as exc:
            log.warning("%s", exc.message)
            return False

    def look(self) -> None:
        """Type the command for each job that is to go on now, one after the other."""
        for job, decision in self.cases.decisions(self.name):
            if decision.verdict is not Verdict.GO_ON:
                continue
            if self.clock() < self.not_before.get(job.id, float("-inf")):
                continue
            if why := self._why_not(job):
                log.info("%s does not go on: %s", job.id, why)
                going_on = self.cases.plans.continuation(job.id)
                self.cases.plans.save_continuation(job.id, give_up(going_on, why))
                continue
            log.info("going on with %s", job.id)
            self.type_command(job)
            self._count(job.id)

    def _why_not(self, job: JobRecord) -> str:
        if self.deaths.get(job.id, 0) >= MOST_DEATHS:
            return f"what was to go on with it ended {MOST_DEATHS} times without a word"
        runtime = self.cases.runtimes.load(job.runtime)
        is_its_machine = runtime is not None and runtime.request_id == job.request_id
        return self.was_let_go() if is_its_machine and self.is_lost() else ""

    def _count(self, job_id: str) -> None:
        """A command that was killed, or failed by a bug, left the job as it was."""
        job = self.cases.jobs.load(job_id)
        decision = decide(self.cases.of(job)) if job else Decision(Verdict.LEAVE)
        if decision.verdict is not Verdict.GO_ON:
            self.deaths.pop(job_id, None)
            self.not_before.pop(job_id, None)
            return
        deaths = self.deaths[job_id] = self.deaths.get(job_id, 0) + 1
        delay_s = min(RETRY_FIRST_S * 2.0 ** (deaths - 1), RETRY_CAP_S)
        self.not_before[job_id] = self.clock() + delay_s
        log.warning("it ended without a word; it is typed again in %.0f s", delay_s)
