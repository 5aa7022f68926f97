"""`run`, `attach`, `ps`, `logs`, `stop`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from colabdev.cli import output, render
from colabdev.cli.attachment import Attachment, Wishes, check_types, wishes
from colabdev.cli.boundary import JobStatus
from colabdev.cli.requests import run_request
from colabdev.cli.runtimes import JsonOption, RuntimeOption
from colabdev.cli.streams import ReaderGone, Screen, noticing_readers
from colabdev.errors import ColabdevError, ExitCode
from colabdev.models import JobState

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.models import JobRecord
    from colabdev.services.jobs import Jobs, Start

READER_GONE = 141
"""As for any program that is ended by SIGPIPE."""

_MODULE = "-m"


class RunCommand(TyperCommand):
    """Options come before SCRIPT or `-m MODULE`; everything after goes to it untouched."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        ours, theirs = self._split(args)
        return super().parse_args(ctx, [*ours, "--", *theirs] if theirs else ours)

    def _split(self, args: list[str]) -> tuple[list[str], list[str]]:
        takes_value = {
            name
            for parameter in self.params
            if not getattr(parameter, "is_flag", True)
            for name in parameter.opts
        }
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] != "-":
            if args[at] == "--":
                return args[:at], args[at + 1 :]
            is_module = args[at].startswith(_MODULE)
            at += 2 if args[at] in takes_value else 1
            if is_module:
                break
        return args[:at], args[at:]


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


def run(
    ctx: typer.Context,
    script: Annotated[
        str | None,
        typer.Argument(
            metavar="SCRIPT",
            help="A .py or .sh file of the project; anything else is a command on the runtime.",
        ),
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="For it, untouched.")
    ] = None,
    module: Annotated[
        str | None, typer.Option(_MODULE, metavar="MODULE", help="Run a module, as `python -m`.")
    ] = None,
    runtime: RuntimeOption = None,
    interactive: InteractiveOption = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start it, print the job's id, and leave it alone.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", help="The job's name. Default: the script's.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="K=V", help="A variable for it. Repeatable."),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Run in the work dir, without a copy of the code.")
    ] = False,
    no_sync: Annotated[
        bool, typer.Option("--no-sync", help="Run what is on the runtime now.")
    ] = False,
) -> int:
    """Run a program on the runtime, detached, and stream its log here.

    The exit status is the job's own; 125 is ours. Ctrl-C detaches: the job runs on.

    Run at a terminal it has one, too; with -i its keyboard: Ctrl-C is the job's then, ~. detaches.

    Example: colabdev run train.py --epochs 10
    """
    wiring: Wiring = ctx.obj
    wanted = wishes(interactive=interactive, detach=detach)
    words = [word for word in (script, *(arguments or ())) if word is not None]
    request = run_request(
        words,
        module=module,
        runtime=wiring.named(runtime),
        name=name,
        env=env or (),
        in_place=in_place,
        sync=not no_sync,
        window=wanted.window,
        stdin=wanted.stdin,
        terminal=wanted.variables,
    )
    jobs = wiring.jobs()
    start = jobs.prepare(request, output.progress)
    if detach:
        return _start_and_leave(jobs, start)
    return _start_and_follow(wiring, jobs, start, wanted, interactive=interactive)


def _start_and_leave(jobs: Jobs, start: Start) -> int:
    try:
        jobs.start(start, output.progress)
    except KeyboardInterrupt:
        render.left(start)
        return JobStatus(ExitCode.INTERRUPTED)
    render.detached(start.job)
    return JobStatus(ExitCode.OK)


def _start_and_follow(
    wiring: Wiring, jobs: Jobs, start: Start, wanted: Wishes, *, interactive: bool
) -> int:
    output.progress(f"job {start.job.id} on {start.job.runtime}")
    screen = Screen()
    attachment = Attachment(
        jobs.input(start.job, screen.progress),
        screen,
        stdin=wanted.stdin,
        types=interactive,
        pty=wanted.window is not None,
    )
    start.starting.when_started = attachment.begin
    log = jobs.run(start, screen.progress)
    stopped_by = _stream(log, lambda: render.left(start), screen, attachment)
    ended = start.starting.told or wiring.job_store().load(start.job.id)
    return _status(ended, stopped_by, screen)


def attach(
    ctx: typer.Context, job: JobArgument = None, interactive: InteractiveOption = False
) -> int:
    """Go on with a job as if this terminal had started it: its log, its window, its status.

    It begins with the last lines of the log. Ctrl-C detaches, and with -i ~. does.

    Example: colabdev attach train
    """
    wiring: Wiring = ctx.obj
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
    stopped_by = _stream(log, lambda: render.left_running(found), screen, attachment, begins=True)
    ended = found if found.state is JobState.LOST else wiring.job_store().load(found.id)
    return _status(ended, stopped_by, screen)


def ps(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that ended long ago.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """List the jobs, newest first: those that run, and the newest that have ended.

    --json has them all.

    Example: colabdev ps --json
    """
    wiring: Wiring = ctx.obj
    listing = wiring.jobs().ps(output.progress)
    render.jobs(listing if everything or as_json else listing.recent(), as_json=as_json)
    return ExitCode.STATE_UNREADABLE if listing.unreadable else ExitCode.OK


def logs(
    ctx: typer.Context,
    job: JobArgument = None,
    follow: Annotated[bool, typer.Option("-f", help="Go on until the job has ended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> int:
    """Print a job's log, byte for byte.

    Example: colabdev logs -f train
    """
    wiring: Wiring = ctx.obj
    jobs = wiring.jobs()
    found = jobs.find(job, output.progress)
    pieces = jobs.follow(found, output.progress, wait=follow)
    if as_json:
        pieces = render.log_lines(found, pieces)
    stopped_by = _stream(pieces, lambda: render.left_running(found), Screen())
    return JobStatus(ExitCode.OK if stopped_by is None else stopped_by)


def stop(
    ctx: typer.Context,
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB", help="A job's id, or the start of one.", autocompletion=complete_job
        ),
    ],
    grace: Annotated[
        float,
        typer.Option("--grace", metavar="S", min=0, max=86400, help="Seconds until it is killed."),
    ] = 10.0,
) -> int:
    """Stop a job: TERM, and after the grace KILL to all that it started.

    Example: colabdev stop train --grace 30
    """
    wiring: Wiring = ctx.obj
    jobs = wiring.jobs()
    found = jobs.find(job, output.progress)
    render.stopped(found, jobs.stop(found, grace_s=grace))
    return ExitCode.OK


def _stream(
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


def _status(ended: JobRecord | None, stopped_by: int | None, screen: Screen) -> int:
    if stopped_by is not None:
        return JobStatus(stopped_by)
    try:
        return JobStatus(_own_status(ended))
    except ColabdevError:
        screen.begin_line()
        raise


def _own_status(job: JobRecord | None) -> int:
    if job is None:
        raise ColabdevError("cannot tell how the job ended", hint="colabdev ps")
    if job.state is JobState.LOST:
        raise ColabdevError(
            f"{job.id} is lost: its runtime went before it ended",
            hint=f"colabdev logs {job.id} prints what came home of its log",
        )
    if not job.state.is_end:
        raise ColabdevError(f"cannot tell how {job.id} ended", hint="colabdev ps")
    if job.exit_status is None:
        raise ColabdevError(
            f"{job.id} ended, exit code unknown: nobody watched it end",
            hint=f"colabdev logs {job.id}",
        )
    return job.exit_status
