"""A job's record as JSON, and what it becomes as news of the job comes in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from colabdev.agent import jobdir
from colabdev.core.json_values import listing, optional_count, text, whole_number
from colabdev.core.names import is_runtime_name
from colabdev.core.recovery_records import (
    format_consent,
    format_past,
    format_resumed,
    parse_consent,
    parse_past,
    parse_resumed,
)
from colabdev.core.times import format_exact_time, parse_time
from colabdev.errors import (
    ColabdevError,
    JobNotFound,
    ProtocolError,
    RuntimeLost,
    UsageError,
    nearest,
)
from colabdev.models import JobRecord, JobState, Phase, RuntimeRecord

SCHEMA = 1
_NAMED_IDS = 5
_START_OF_ID = re.compile("[a-z0-9][a-z0-9-]{0,51}")
_DATED = re.compile("-[0-9]{6}(-|$)")
START_TIMEOUT = timedelta(seconds=60)
"""A job that its runtime does not know by then was never started."""


@dataclass(frozen=True, slots=True)
class JobsOnRuntime:
    """What a runtime says of all its jobs, by their ids."""

    rows: Mapping[str, Mapping[str, Any]]
    problems: Mapping[str, str]
    """Those that it has and cannot read, and why: they may well be running."""

    def __contains__(self, job_id: object) -> bool:
        return job_id in self.rows or job_id in self.problems


def format_job(job: JobRecord) -> str:
    """The record as JSON; `parse_job` gives it back."""
    document = {
        "schema": SCHEMA,
        "id": job.id,
        "name": job.name,
        "runtime": job.runtime,
        "request_id": job.request_id,
        "argv": list(job.argv),
        "created": format_exact_time(job.created),
        "attempt": job.attempt,
        "state": job.state.value,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "started": format_exact_time(job.started) if job.started else None,
        "ended": format_exact_time(job.ended) if job.ended else None,
        "log_bytes": job.log_bytes,
        "reason": job.reason,
        "gives_back": job.gives_back,
        "ours": job.ours,
        "continues": format_consent(job.continues),
        "past": format_past(job.past),
        "resumed": format_resumed(job.resumed),
    }
    return json.dumps(document, indent=2) + "\n"


def parse_job(written: str) -> JobRecord:
    """The record that was written; ValueError says what is wrong with it."""
    document = json.loads(written)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    if document.get("schema") != SCHEMA:
        raise ValueError(f"it has schema {document.get('schema')}")
    try:
        return JobRecord(
            id=text(document["id"]),
            name=text(document["name"]),
            runtime=_runtime(document["runtime"]),
            request_id=text(document["request_id"]),
            argv=tuple(text(word) for word in listing(document["argv"])),
            created=parse_time(document["created"]),
            attempt=optional_count(document["attempt"]) or jobdir.FIRST_ATTEMPT,
            state=JobState(document["state"]),
            exit_code=whole_number(document["exit_code"]),
            signal=whole_number(document["signal"]),
            started=parse_time(document["started"]) if document["started"] else None,
            ended=parse_time(document["ended"]) if document["ended"] else None,
            log_bytes=optional_count(document["log_bytes"]),
            reason=_reason(document.get("reason")),
            gives_back=document.get("gives_back") is True,
            ours=document.get("ours") is not False,
            continues=parse_consent(document.get("continues")),  # Older records have none.
            past=parse_past(document.get("past") or []),
            resumed=parse_resumed(document.get("resumed")),
        )
    except (KeyError, TypeError) as exc:
        raise ValueError(f"it lacks or mangles {exc}") from exc


def parse_job_list(answer: Mapping[str, Any]) -> JobsOnRuntime:
    """The agent's answer to `job.list`."""
    try:
        return JobsOnRuntime(
            {text(row["id"]): row for row in answer["jobs"]},
            {text(row["id"]): str(row["reason"]) for row in answer["problems"]},
        )
    except (KeyError, TypeError) as exc:
        raise ProtocolError(f"cannot understand the runtime's list of jobs: {exc!r}") from exc


def parse_news(answer: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The agent's answer to `job.news` by the jobs' ids: `id`, `log_bytes` and whether it `ended`."""
    try:
        return {
            text(row["id"]): {
                "id": row["id"],
                "log_bytes": whole_number(row["log_bytes"]) or 0,
                "ended": JobState(row["state"]).is_end,
            }
            for row in answer["jobs"]
        }
    except (KeyError, TypeError, ValueError) as exc:
        raise ProtocolError(f"cannot understand the runtime's news of jobs: {exc!r}") from exc


def told_by_runtime(job: JobRecord, status: object) -> JobRecord:
    """The record after the runtime said how the job stands. An end is never taken back."""
    if not isinstance(status, dict):
        raise ProtocolError(f"cannot understand what the runtime says of {job.id}: no status")
    try:
        return _told(job, status)
    except (KeyError, TypeError, ValueError) as exc:
        raise ProtocolError(
            f"cannot understand what the runtime says of {job.id}: {exc!r}"
        ) from exc


def _told(job: JobRecord, status: Mapping[str, Any]) -> JobRecord:
    state = JobState(str(status["state"]))
    if job.state.is_end and job.state is not JobState.LOST:
        return job
    return replace(
        job,
        state=state,
        attempt=whole_number(status.get("attempt")) or job.attempt,
        exit_code=whole_number(status.get("exit_code")),
        signal=whole_number(status.get("signal")),
        started=_moment(status.get("started")),
        ended=_moment(status.get("ended")),
        log_bytes=whole_number(status.get("log_bytes")) if state.is_end else None,
        reason=_reason(status.get("reason")),
    )


def with_standing(known: JobRecord, told: JobRecord) -> JobRecord:
    """The record as it is now, with what was `told` of its attempt."""
    if (known.attempt, known.request_id) != (told.attempt, told.request_id):
        return known
    return replace(told, continues=known.continues, past=known.past, resumed=known.resumed)


def is_started_by(status: Mapping[str, Any], runtime: RuntimeRecord) -> bool:
    """Whether a job of that machine's belongs to this runtime. On a host that several computers share,
    and that outlives its runtimes, `down` must not end the others' jobs."""
    return status.get("runtime") in (None, runtime.request_id)


def found_on_runtime(status: Mapping[str, Any], runtime: RuntimeRecord) -> JobRecord:
    """The record of a job that somebody else started there."""
    job_id = status.get("id")
    if not isinstance(job_id, str) or not jobdir.is_job_id(job_id):
        raise ProtocolError(
            f"cannot understand the runtime's list of jobs: {job_id!r} is no job id"
        )
    argv = status.get("argv")
    job = JobRecord(
        id=job_id,
        name=str(status.get("name")),
        runtime=runtime.name,
        request_id=runtime.request_id,
        argv=tuple(str(word) for word in argv) if isinstance(argv, list) else (),
        created=_moment(status.get("created")) or datetime.now(UTC),
        ours=is_started_by(status, runtime),
    )
    return told_by_runtime(job, status)


def is_machine_gone(job: JobRecord, runtime: RuntimeRecord | None) -> bool:
    """Whether the machine that the job ran on is gone; another one may have its name by now."""
    return runtime is None or runtime.request_id != job.request_id or runtime.phase is Phase.LOST


def as_it_stands(job: JobRecord, runtime: RuntimeRecord | None) -> JobRecord:
    """The record in view of what became of its runtime: with the machine an unfinished job is lost."""
    is_lost = is_machine_gone(job, runtime) and not job.state.is_end
    return replace(job, state=JobState.LOST) if is_lost else job


def not_on_runtime(job: JobRecord, now: datetime) -> JobRecord:
    """The record after its runtime said that it has no such job."""
    if job.state.is_end or now - job.created < START_TIMEOUT:
        return job
    return replace(job, state=JobState.LOST)


def choose_job_id(word: str, ids: Iterable[str]) -> str:
    """The one job that `word`, an id or the start of one, means."""
    matching = jobdir.matching(word, ids) if word else []
    if not matching:
        raise JobNotFound(f"no job is called {word!r}", hint="colabdev ps lists them")
    if len(matching) > 1:
        named = ", ".join(matching[:_NAMED_IDS])
        more = f" and {len(matching) - _NAMED_IDS} more" if len(matching) > _NAMED_IDS else ""
        raise UsageError(
            f"{word!r} may mean {named}{more}",
            hint="type more of its id; colabdev ps --all lists them",
        )
    return matching[0]


def check_is_no_slip(word: str, ids: Iterable[str]) -> None:
    """JobNotFound when `word`, which means no job that is known here, is not another computer's job's
    either: it is no id nor the start of one, or nearly a name that is known."""
    names = {one.rsplit("-", 2)[0] for one in ids}
    meant = None if _DATED.search(word) else nearest(word, names)
    if meant or not _START_OF_ID.fullmatch(word):
        guess = f"; did you mean {meant!r}?" if meant else ""
        raise JobNotFound(f"no job is called {word!r}{guess}", hint="colabdev ps --all lists them")


def choose_by_name(name: str, jobs: Sequence[JobRecord]) -> Sequence[JobRecord]:
    """Of the jobs, newest first, those that a bare name means: all of that name that go on, else the
    newest of them."""
    named = [job for job in jobs if job.name == name]
    return [job for job in named if not job.state.is_end] or named[:1]


def _reason(value: object) -> str | None:
    """The reason, if this version knows it."""
    return str(value) if value in jobdir.REASONS else None


def _runtime(value: object) -> str:
    """A runtime's name, which becomes the name of a file."""
    name = text(value)
    if not is_runtime_name(name):
        raise TypeError(repr(name))
    return name


def _moment(value: object) -> datetime | None:
    if not isinstance(value, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise ProtocolError(f"cannot understand the runtime's time {value}") from exc


def own_status(job: JobRecord | None) -> int:
    """The exit status of a job that has ended; RuntimeLost when its machine went before, ColabdevError
    when nobody knows."""
    if job is None:
        raise ColabdevError("cannot tell how the job ended", hint="colabdev ps")
    if job.state is JobState.LOST:
        raise RuntimeLost(
            f"{job.id} is lost: its runtime went before it ended",
            hint=f"colabdev logs {job.id} prints what came home of its log",
        )
    if not job.state.is_end:
        raise ColabdevError(f"cannot tell how {job.id} ended", hint="colabdev ps")
    if job.exit_status is None and job.state is JobState.STOPPED:
        raise ColabdevError(
            f"{job.id} was stopped while it had no machine", hint=f"colabdev logs {job.id}"
        )
    if job.exit_status is None:
        raise ColabdevError(
            f"{job.id} ended, exit code unknown: nobody watched it end",
            hint=f"colabdev logs {job.id}",
        )
    return job.exit_status
