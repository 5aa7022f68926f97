"""`run --continue`: going on with a job whose machine died."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from colabdev.cli import output, render_jobs, terminal
from colabdev.core.recovery import Verdict
from colabdev.core.times import format_time
from colabdev.errors import BehindProved, RuntimeLost
from colabdev.models import JobState
from colabdev.models.recovery import Going

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.core.recovery import Decision
    from colabdev.models import JobRecord


def continue_job(wiring: Wiring, word: str, wish: Going, *, as_json: bool) -> JobRecord:
    """Have the job go on, and say so; RuntimeLost when it does not. One that never lost its machine, or
    has ended, is left as it is. BehindProved unless somebody here says that older will do."""
    found = wiring.jobs().find(word, output.progress)
    service = wiring.recovery().service()
    try:
        outcome = service.go_on(found.id, wish, output.progress)
    except BehindProved as exc:
        question = f"{exc.message}. Go on from what there is?"
        if not (wish.by_hand and terminal.has_keyboard() and output.agrees(question)):
            raise
        outcome = service.go_on(found.id, replace(wish, accept_rollback=True), output.progress)
    job, verdict = outcome.job, outcome.decision.verdict
    if verdict in (Verdict.WAIT, Verdict.NEVER):
        raise RuntimeLost(_why(job, outcome.decision), hint=f"colabdev run --continue {job.id}")
    if verdict is Verdict.LEAVE and wish.by_hand and _is_lost(wiring, job):
        raise RuntimeLost(
            f"cannot go on with {job.id}: it was started without [checkpoints] dir, typed into, or on "
            "a machine that colabdev does not start, so that nothing is kept to start it once more",
            hint=f"colabdev logs {job.id} prints what came home; colabdev run starts it anew",
        )
    render_jobs.continued(job, as_json=as_json)
    return job


def _is_lost(wiring: Wiring, job: JobRecord) -> bool:
    is_gone = wiring.recovery().hand_overs().is_gone(job)
    return is_gone and (not job.state.is_end or job.state is JobState.LOST)


def _why(job: JobRecord, decision: Decision) -> str:
    until = f", until {format_time(decision.until)}" if decision.until else ""
    word = "waits" if decision.verdict is Verdict.WAIT else "does not go on"
    return f"{job.id} {word}{until}: {decision.why}"
