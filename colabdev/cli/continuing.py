"""`run --continue`: going on with a job whose machine died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from colabdev.cli import output, render_jobs
from colabdev.core.recovery import Verdict
from colabdev.core.times import format_time
from colabdev.errors import RuntimeLost
from colabdev.models.recovery import Going

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.core.recovery import Decision
    from colabdev.models import JobRecord


def continue_job(wiring: Wiring, word: str, wish: Going, *, as_json: bool) -> JobRecord:
    """Have the job go on, and say so; RuntimeLost when it does not. One that never lost its machine is
    left as it is."""
    found = wiring.jobs().find(word, output.progress)
    outcome = wiring.recovery().service().go_on(found.id, wish, output.progress)
    if outcome.decision.verdict in (Verdict.WAIT, Verdict.NEVER):
        raise RuntimeLost(
            _why(outcome.job, outcome.decision), hint=f"colabdev run --continue {found.id}"
        )
    render_jobs.continued(outcome.job, as_json=as_json)
    return outcome.job


def _why(job: JobRecord, decision: Decision) -> str:
    until = f", until {format_time(decision.until)}" if decision.until else ""
    word = "waits" if decision.verdict is Verdict.WAIT else "does not go on"
    return f"{job.id} {word}{until}: {decision.why}"
