"""`checkpoints ls`, `verify`, `pull`, `push`, `prune`, `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render_checkpoints
from colabdev.cli.options import JsonOption, RuntimeOption
from colabdev.cli.requests import own_project_names, parse_timeout
from colabdev.errors import ExitCode, RuntimeNotFound

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.models import RuntimeRecord

JobArgument = Annotated[
    str | None,
    typer.Argument(metavar="JOB", help="The beginning of a job's id. Default: the newest's."),
]
NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="CHECKPOINT", help="Its name or step. Default: the newest."),
]


def ls(
    ctx: typer.Context,
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="The beginning of a job's id. Default: all.")
    ] = None,
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """List the checkpoints of jobs: on the runtime, on its Drive and here, each with its proof.

    Example: colabdev checkpoints ls
    """
    wiring: Wiring = ctx.obj
    record: RuntimeRecord | None = None
    try:
        record = _runtime(wiring, runtime)
    except RuntimeNotFound:
        if runtime is not None:
            raise
    found = wiring.checkpoints().service().find(record, own_project_names()[1], job)
    render_checkpoints.listing(found, as_json=as_json)
    return ExitCode.PARTLY_DONE if found.unasked else ExitCode.OK


def verify(
    ctx: typer.Context,
    job: JobArgument = None,
    checkpoint: Annotated[
        str | None,
        typer.Argument(metavar="CHECKPOINT", help="Its name or step. Default: all of the job's."),
    ] = None,
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Read every byte of a job's checkpoints, wherever they are, and compare it with its hash.

    Example: colabdev checkpoints verify
    """
    wiring: Wiring = ctx.obj
    verdicts = wiring.checkpoints().service().verify(_runtime(wiring, runtime), job, checkpoint)
    sound = render_checkpoints.verdicts(verdicts, as_json=as_json)
    return ExitCode.OK if sound else ExitCode.PARTLY_DONE


def push(
    ctx: typer.Context,
    job: JobArgument = None,
    checkpoint: NameArgument = None,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="How long to wait for the proof.")
    ] = "10m",
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Have a checkpoint made safe now, and wait until that is proved.

    Example: colabdev checkpoints push
    """
    wiring: Wiring = ctx.obj
    timeout_s = parse_timeout(timeout)
    record = _runtime(wiring, runtime)
    service = wiring.checkpoints().service()
    pushed = service.push(record, job, checkpoint, timeout_s, output.progress)
    render_checkpoints.pushed(pushed, as_json=as_json)
    return ExitCode.OK if pushed.is_safe else ExitCode.NOT_SAFE


def pull(
    ctx: typer.Context,
    job: JobArgument = None,
    checkpoint: NameArgument = None,
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Copy it there, too: a new or empty folder."),
    ] = None,
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Bring a checkpoint to this computer, and prove it here; typed again it goes on.

    Example: colabdev checkpoints pull --to ./best
    """
    wiring: Wiring = ctx.obj
    target = None if to is None else wiring.absolute(to)
    record = _runtime(wiring, runtime)
    pulled = wiring.checkpoints().service().pull(record, job, checkpoint, target)
    render_checkpoints.pulled(pulled, as_json=as_json)
    return ExitCode.OK


def prune(
    ctx: typer.Context,
    job: JobArgument = None,
    keep: Annotated[int, typer.Option(min=2, help="So many of the newest stay.")] = 3,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be deleted, and stop.")
    ] = False,
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Delete a job's old checkpoints from the runtime and its Drive; newest, best and safe ones stay.

    Example: colabdev checkpoints prune --dry-run
    """
    wiring: Wiring = ctx.obj
    record = _runtime(wiring, runtime)
    pruned = wiring.checkpoints().service().prune(record, job, keep, dry_run=dry_run)
    render_checkpoints.pruned(pruned, dry_run=dry_run, as_json=as_json)
    return ExitCode.OK


def restore(
    ctx: typer.Context,
    job: JobArgument = None,
    checkpoint: NameArgument = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="A folder of the runtime. Default: restored/JOB beside the work dirs.",
        ),
    ] = None,
    accept_rollback: Annotated[
        bool,
        typer.Option("--accept-rollback", help="Also one older than what was proved to be safe."),
    ] = False,
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Put a checkpoint from Drive, or from here, on the runtime's disk: the newest that verifies.

    Example: colabdev checkpoints restore
    """
    wiring: Wiring = ctx.obj
    record = _runtime(wiring, runtime)
    restored = wiring.checkpoints().restore(
        record,
        own_project_names()[1],
        job=job,
        name=checkpoint,
        to=to,
        accept_rollback=accept_rollback,
    )
    render_checkpoints.restored(restored, as_json=as_json)
    return ExitCode.OK


def _runtime(wiring: Wiring, typed: str | None) -> RuntimeRecord:
    return wiring.runtimes().choose(wiring.named(typed), wiring.project_path())
