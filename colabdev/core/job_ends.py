"""How a job ended, in a sentence, and what to type next."""

from __future__ import annotations

import signal

from colabdev.agent import jobdir
from colabdev.models import JobRecord, JobState

_BY_REASON = {
    jobdir.OUT_OF_MEMORY: (
        "{id} failed{status}: the kernel killed it, or a process of it, for memory",
        "colabdev logs --metrics {id} shows what it took; try a smaller batch, say",
    ),
    jobdir.DISK_FULL: (
        "{id} failed{status}: the runtime's disk is full",
        "colabdev ssh {runtime} -- df -h, and make room there",
    ),
    jobdir.SUPERSEDED: (
        "{id} was stopped here: a later attempt of it runs on another machine",
        "colabdev ps, on the computer that went on with it",
    ),
}


def describe_end(job: JobRecord) -> tuple[str, str]:
    """What happened to a job that ended otherwise than well, and a hint; ("", "") of one that ended
    well, and of one whose end nobody knows."""
    log = f"colabdev logs --tail 50 {job.id}"
    if job.reason in _BY_REASON:
        said, hint = _BY_REASON[job.reason]
        known = {"id": job.id, "status": _status(job), "runtime": job.runtime}
        return said.format(**known), hint.format(**known)
    if job.state is JobState.TIMED_OUT:
        return f"{job.id} was ended: its --timeout was over", log
    if job.state is JobState.STOPPED:
        return f"{job.id} was stopped{_status(job)}", log
    if job.state is JobState.FAILED:
        return f"{job.id} failed{_status(job)}", log
    return "", ""


def _status(job: JobRecord) -> str:
    if job.signal is not None:
        return f", killed by signal {job.signal} ({_signal_name(job.signal)})"
    return "" if job.exit_code is None else f", exit status {job.exit_code}"


def _signal_name(number: int) -> str:
    """The runtime is Linux or macOS, and this computer may be Windows: what both agree on has a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return _ELSEWHERE.get(number, "unknown here")


_ELSEWHERE = {1: "SIGHUP", 9: "SIGKILL", 13: "SIGPIPE"}
