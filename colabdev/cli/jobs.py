"""`attach`, `ps`, `logs`, `stop`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.agent import jobdir
from colabdev.cli import output, render_jobs
from colabdev.cli.attachment import Attachment, check_types
from colabdev.cli.boundary import JobStatus
from colabdev.cli.options import JsonOption
from colabdev.cli.requests import log_begin
from colabdev.cli.streams import ReaderGone, Screen, noticing_readers
from colabdev.core.job_records import own_status
from colabdev.core.signals import parse_signal
from colabdev.errors import ColabdevError, ExitCode, UsageError
from colabdev.models import JobState

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.models import JobRecord
    from colabdev.services.jobs import Jobs

READER_GONE = 141
"""As for any program that is ended by SIGPIPE."""


def complete_job(ctx: typer.Context, incomplete: str) -> list[str]:
    """The jobs known here, for the shell's completion."""
    wiring: Wiring = ctx.find_root().obj
    return [job_id for job_id in wiring.job_store().ids() if job_id.startswith(incomplete)]


JobArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="JOB",
        help="A job's id, or the start of one. Default: the newest job.",
        autocompletion=complete_job,
    ),
]

InteractiveOption = Annotated[
    bool, typer.Option("-i", help="What is typed or piped here is the job's stdin.")
]


def attach(
    ctx: typer.Context, job: JobArgument = None, interactive: InteractiveOption = False
) -> int:
    """Go on with a job as if this terminal had started it: its log, its window, its status.

    It begins with the last lines of the log. Ctrl-C detaches, and with -i ~. does.

    Example: colabdev attach train
    """
    wiring: Wiring = ctx.obj
    wiring.recovery().hand_overs().tell(output.progress)
    jobs = wiring.jobs()
    standing = jobs.standing(jobs.find(job, output.progress))
    found = standing.job
    if interactive and not standing.is_end:
        check_types(found.id, standing.stdin)
    screen = Screen()
    attachment = Attachment(
        jobs.input(found, screen.progress),
        screen,
        stdin=standing.stdin,
        types=interactive and not standing.is_end,
        pty=standing.pty,
    )
    output.progress(f"job {found.id} on {found.runtime}")
    log = jobs.attach(standing, screen.progress)
    stopped_by = stream_log(log, lambda: _left(jobs, found), screen, attachment, begins=True)
    ended = found if found.state is JobState.LOST else wiring.job_store().load(found.id)
    return end_status(ended, stopped_by, screen)


def ps(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that ended long ago.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """List the jobs, newest first: those that run, and the newest that have ended.

    --json has them all. The status is 3 when a runtime could not be asked: how its jobs stand is
    unknown then.

    Example: colabdev ps --json
    """
    wiring: Wiring = ctx.obj
    listing = wiring.jobs().ps(output.progress)
    wiring.recovery().hand_overs().tell(output.progress)
    render_jobs.jobs(listing if everything or as_json else listing.recent(), as_json=as_json)
    if listing.errors():
        return ExitCode.STATE_UNREADABLE
    return ExitCode.PARTLY_DONE if listing.unreached else ExitCode.OK


def logs(
    ctx: typer.Context,
    job: JobArgument = None,
    follow: Annotated[bool, typer.Option("-f", help="Go on until the job has ended.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="Begin with the last N lines.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Begin that long ago: 90s, 10m, 2h."),
    ] = None,
    metrics: Annotated[
        bool,
        typer.Option("--metrics", help="What it took of its machine instead, a row each 10 s."),
    ] = False,
    attempt: Annotated[
        int | None,
        typer.Option(
            "--attempt", metavar="N", min=1, help="Only what it wrote on its Nth machine."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> int:
    """Print a job's log, byte for byte.

    Of a job that continued on other machines that is all of it, from its first one on; --tail and
    --since are of the newest.

    Example: colabdev logs -f train
    """
    wiring: Wiring = ctx.obj
    begin = log_begin(tail, since)
    if attempt is not None and (follow or metrics or begin):
        raise UsageError(
            "--attempt prints all that one attempt wrote; it goes with no other option but --json",
            hint="colabdev logs --attempt 1 JOB",
        )
    if metrics and follow:
        raise UsageError(
            "-f follows a log; --metrics only lists", hint="colabdev logs --metrics JOB"
        )
    wiring.recovery().hand_overs().tell(output.progress)
    jobs = wiring.jobs()
    found = jobs.find(job, output.progress)
    if metrics:
        render_jobs.metrics(jobs.metrics(found, begin), as_json=as_json)
        return ExitCode.OK
    screen = Screen()
    log = jobs.pieces(found, screen.progress, wait=follow, begin=begin, attempt=attempt)
    pieces = render_jobs.log_lines(found, log) if as_json else (piece.data for piece in log)
    stopped_by = stream_log(pieces, lambda: _left(jobs, found), screen)
    if follow and stopped_by is None:
        render_jobs.ended(wiring.job_store().load(found.id) or found)
    return JobStatus(ExitCode.OK if stopped_by is None else stopped_by)


def _left(jobs: Jobs, job: JobRecord) -> None:
    render_jobs.left_running(job, in_contact=jobs.in_contact(job))


def stop(
    ctx: typer.Context,
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB", help="A job's id, or the start of one.", autocompletion=complete_job
        ),
    ],
    signal: Annotated[
        str, typer.Option("--signal", metavar="NAME", help="What asks it to end: INT, USR1, …")
    ] = jobdir.DEFAULT_SIGNAL,
    grace: Annotated[
        float,
        typer.Option("--grace", metavar="S", min=0, max=86400, help="Seconds until it is killed."),
    ] = jobdir.DEFAULT_GRACE_S,
) -> int:
    """Stop a job: a signal, and after the grace KILL to all that it started, daemons included.

    Example: colabdev stop train --signal INT --grace 30
    """
    wiring: Wiring = ctx.obj
    jobs = wiring.jobs()
    name = parse_signal(signal)
    found = jobs.find(job, output.progress, alone=True)
    render_jobs.stopped(found, jobs.stop(found, grace_s=grace, signal=name))
    return ExitCode.OK


def stream_log(
    pieces: Iterator[bytes],
    left: Callable[[], None],
    screen: Screen,
    attachment: Attachment | None = None,
    *,
    begins: bool = False,
) -> int | None:
    """Write the pieces to stdout as they come; what ended that before the log did, if anything did.

    `begins`: the job runs already, so the attachment does not wait for its start.
    """
    try:
        with noticing_readers(), attachment or nullcontext():
            if attachment and begins:
                attachment.begin(redraw=True)
            screen.write(pieces)
    except ReaderGone:
        return READER_GONE
    except KeyboardInterrupt:
        left()
        return int(ExitCode.INTERRUPTED)
    except ColabdevError:
        screen.begin_line()
        raise
    return None


def end_status(ended: JobRecord | None, stopped_by: int | None, screen: Screen) -> int:
    """The job's own exit status, unless something else ended the following of its log."""
    if stopped_by is not None:
        return JobStatus(stopped_by)
    if ended is None or ended.state is not JobState.SUCCEEDED:
        screen.begin_line()
    status = JobStatus(own_status(ended))
    if ended is not None:
        render_jobs.ended(ended)
    return status
