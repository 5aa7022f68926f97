"""What is said of jobs, in words and in JSON; also logs and metrics as JSON lines."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from colabdev.agent import jobdir
from colabdev.cli.output import document, error, line, printable, say
from colabdev.cli.render import outlook_json, table
from colabdev.core.job_ends import describe_end
from colabdev.core.outlook import describe_done
from colabdev.core.times import format_age, format_time
from colabdev.core.usage import describe_room, describe_usage, time_of
from colabdev.models import JobState

if TYPE_CHECKING:
    from colabdev.models import JobRecord
    from colabdev.services.jobs import JobListing
    from colabdev.services.log_reading import LogPiece
    from colabdev.services.starts import Start

_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_LONGEST_LINE_BYTES = 64 * 1024
_YEAR_3000 = 32503680000
_REASONS = {
    jobdir.OUT_OF_MEMORY: "memory",
    jobdir.DISK_FULL: "disk full",
    jobdir.SUPERSEDED: "goes on elsewhere",
}


def detached(job: JobRecord) -> None:
    """A job that was started and left alone; its id is the result."""
    line(job.id)
    _say_how_to_go_on(job)


def left(start: Start, *, in_contact: bool = True) -> None:
    """Ctrl-C while a job is started or followed: what became of it."""
    if start.starting.started:
        left_running(start.job, in_contact=in_contact)
    elif start.starting.unanswered:
        say(f"\n{start.job.id} may have started; colabdev ps tells")
    else:
        say(f"\n{start.job.id} was not started")


def left_running(job: JobRecord, *, in_contact: bool = True) -> None:
    """Ctrl-C while following: the terminal has echoed ^C in the middle of a line."""
    if in_contact:
        say(f"\n{job.id} runs on")
    else:
        say(f"\nthere is no contact with {job.runtime}: whether {job.id} runs on is not known")
    _say_how_to_go_on(job)


def stopped(before: JobRecord, job: JobRecord) -> None:
    """What came of stopping a job."""
    if before.state.is_end:
        line(f"{job.id} has ended already: {job.state.value}")
    elif job.exit_status is None:
        line(f"{job.id} is {job.state.value}")
    else:
        line(f"{job.id} is {job.state.value}, exit code {job.exit_status}")


def continued(job: JobRecord, *, as_json: bool) -> None:
    """A job that goes on, or went on all the time."""
    if as_json:
        began = job.resumed
        told = None if began is None else {"attempt": began.attempt, "step": began.step}
        document({"job": job.id, "runtime": job.runtime, "attempt": job.attempt, "from": told})
    elif job.state.is_end and job.state is not JobState.LOST:
        say(f"{job.id} has ended: {job.state.value}")
    else:
        say(f"{job.id} is at attempt {job.attempt} on {job.runtime}")


def jobs(listing: JobListing, *, as_json: bool) -> None:
    """All jobs; what could not be asked or read follows on stderr, or in the document."""
    if as_json:
        content: dict[str, Any] = {"jobs": [_job_json(job, listing) for job in listing.jobs]}
        for unreadable in listing.errors()[:1]:
            content["error"] = unreadable.to_json()
        document(content)
    elif listing.jobs:
        table(
            ("JOB", "RUNTIME", "STATE", "EXIT", "STARTED", "DONE", "TAKES", "COMMAND"),
            [_job_row(job, listing) for job in listing.jobs],
        )
        if listing.hidden:
            say(f"{listing.hidden} older; colabdev ps --all lists them too")
    elif not listing.errors():
        line("no job is known here; colabdev run SCRIPT starts one")
    for sentence in listing.unasked:
        say(sentence)
    if listing.unasked:
        say("  next: colabdev status says how the runtime is")
    if not as_json:
        for unreadable in listing.errors():
            error(unreadable, as_json=False)


def ended(job: JobRecord) -> None:
    """How a job that somebody followed ended, unless it ended well, and what to type next."""
    sentence, hint = describe_end(job)
    if sentence:
        say(sentence)
        say(f"  next: {hint}")


def metrics(rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """What a job took, oldest first."""
    if as_json:
        for row in rows:
            line(json.dumps(row))
    elif rows:
        table(
            ("TIME", "TAKES", "LEAVES"),
            [(_row_time(row), describe_usage(row), describe_room(row)) for row in rows],
        )
    else:
        say("nothing was sampled of it: it ended too soon, or its first sample is still to come")


def _row_time(row: Mapping[str, object]) -> str:
    moment = time_of(row)
    return format_time(datetime.fromtimestamp(moment, UTC)) if 0 < moment < _YEAR_3000 else "-"


def _job_json(job: JobRecord, listing: JobListing) -> dict[str, Any]:
    """A job as the JSON contract has it."""
    return {
        "id": job.id,
        "name": job.name,
        "runtime": job.runtime,
        "state": _known_state(job, listing).value,
        "attempt": job.attempt,
        "exit_code": job.exit_status,
        "argv": list(job.argv),
        "started": format_time(job.started) if job.started else None,
        "ended": format_time(job.ended) if job.ended else None,
        "reason": job.reason,
        "current": listing.is_current(job),
        "metrics": listing.usage(job),
        "forecast": outlook_json(listing.outlooks.get(job.id)),
    }


def log_lines(job: JobRecord, pieces: Iterable[LogPiece]) -> Iterator[bytes]:
    """A log as JSON lines, one for each of its own; `text` is the bytes, `os.fsdecode`d."""
    for attempt, of_attempt in groupby(pieces, key=lambda piece: piece.attempt):
        rest, offset = b"", None
        for piece in of_attempt:
            offset = piece.offset if offset is None else offset
            *lines, rest = _LINE.findall(rest + piece.data) or [b""]
            if rest.endswith((b"\n", b"\r")) or len(rest) > _LONGEST_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for text in lines:
                yield _log_line(job, attempt, offset, text)
                offset += len(text)
        if rest and offset is not None:
            yield _log_line(job, attempt, offset, rest)


def _log_line(job: JobRecord, attempt: int, offset: int, text: bytes) -> bytes:
    content = {
        "job": job.id,
        "attempt": attempt,
        "offset": offset,
        "text": text.decode("utf-8", "surrogateescape"),
    }
    return json.dumps(content).encode("ascii") + b"\n"


def _say_how_to_go_on(job: JobRecord) -> None:
    say(f"  follow  colabdev logs -f {job.id}")
    say(f"  stop    colabdev stop {job.id}")


def _job_row(job: JobRecord, listing: JobListing) -> tuple[str, ...]:
    began = job.started or job.created
    return (
        job.id,
        job.runtime,
        _state(job, listing),
        "-" if job.exit_status is None else str(job.exit_status),
        f"{format_age((datetime.now(UTC) - began).total_seconds())} ago",
        _done(job, listing),
        describe_usage(listing.usage(job) or {}) or "-",
        printable(shlex.join(job.argv)),
    )


def _done(job: JobRecord, listing: JobListing) -> str:
    outlook = listing.outlooks.get(job.id)
    return "-" if outlook is None else describe_done(outlook, datetime.now(UTC))


def _state(job: JobRecord, listing: JobListing) -> str:
    """With what it was when its runtime could still be asked."""
    if job.reason in _REASONS:
        return f"{job.state.value}: {_REASONS[job.reason]}"
    was = "" if listing.is_current(job) else f", was {job.state.value}"
    return _known_state(job, listing).value + was


def _known_state(job: JobRecord, listing: JobListing) -> JobState:
    return job.state if listing.is_current(job) else JobState.UNKNOWN
