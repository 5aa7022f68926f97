"""`sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render
from colabdev.cli.runtimes import JsonOption, RuntimeOption
from colabdev.core.sizes import DEFAULT_MAX_SIZE, parse_size
from colabdev.errors import ExitCode, UsageError
from colabdev.models import SyncOptions

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def sync(
    ctx: typer.Context,
    runtime: RuntimeOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and why; do nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also delete what looks like deleted by accident.")
    ] = False,
    prefer: Annotated[
        str | None,
        typer.Option(metavar="local", help="Where both sides changed, yours replaces the other."),
    ] = None,
    max_size: Annotated[
        str, typer.Option(help="Larger files are not sent by accident: 500M, 2G.")
    ] = DEFAULT_MAX_SIZE,
    as_json: JsonOption = False,
) -> int:
    """Bring the project's files to the runtime; what was edited there is kept and reported.

    Example: colabdev sync --dry-run
    """
    wiring: Wiring = ctx.obj
    if prefer not in (None, "local"):
        raise UsageError(
            f"--prefer takes local; {prefer!r} is not in this version",
            hint="copy what you want of the other side with scp, then colabdev sync --prefer local",
        )
    options = SyncOptions(dry_run=dry_run, force=force, prefer_local=prefer == "local")
    project = wiring.synced_project(parse_size(max_size))
    record = wiring.runtimes().choose(wiring.named(runtime), project.path)
    report = wiring.syncer().sync_project(record, project, options, output.progress)
    render.synced(report, as_json=as_json)
    return ExitCode.OK if report.is_complete else ExitCode.PARTLY_DONE
