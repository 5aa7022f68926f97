"""`sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render_sync
from colabdev.cli.options import JsonOption, RuntimeOption
from colabdev.core.sizes import DEFAULT_MAX_SIZE, parse_size
from colabdev.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def sync(
    ctx: typer.Context,
    runtime: RuntimeOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and why; do nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also delete what looks like an accident, and carry much by ngrok."
        ),
    ] = False,
    prefer: Annotated[
        str | None,
        typer.Option(metavar="local|remote", help="Whose version is taken where both changed."),
    ] = None,
    one_way: Annotated[
        bool, typer.Option("--one-way", help="Only send; edits on the runtime are reported.")
    ] = False,
    delete: Annotated[
        bool,
        typer.Option("--delete", help="With --one-way: make the runtime a mirror of this folder."),
    ] = False,
    pull: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Only fetch this file or folder, ignored or not."),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Say whether it is synced, and which rule decided."),
    ] = None,
    max_size: Annotated[
        str, typer.Option(help="Larger files are not taken along by accident: 500M, 2G.")
    ] = DEFAULT_MAX_SIZE,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on: sync at each change on either side.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Bring this folder and the runtime in step: edits go both ways, and none is lost.

    Example: colabdev sync --dry-run
    Example: colabdev sync --watch
    """
    wiring: Wiring = ctx.obj
    files = wiring.sync()
    if watch:
        _check_watchable(dry_run=dry_run, pull=pull, explain=explain)
    max_bytes = parse_size(max_size)
    mode = files.mode(prefer, one_way=one_way, mirror=delete)
    project = files.project(max_bytes)
    if explain is not None:
        path = files.path_in_project(project.path, explain)
        render_sync.explained(project.tree.explain(path), as_json=as_json)
        return ExitCode.OK
    options = files.options(mode, dry_run=dry_run, force=force)
    pulled = files.path_in_project(project.path, pull) if pull is not None else None
    record = wiring.known_runtimes().choose(wiring.named(runtime), project.path)
    if watch:
        watcher = files.watch(record, project, mode, as_json=as_json)
        watcher.begin(options, output.progress)
        watcher.run()
        return ExitCode.OK
    report = files.syncer().sync_project(record, project, options, output.progress, pulled)
    render_sync.synced(report, as_json=as_json)
    return ExitCode.OK if report.is_complete else ExitCode.PARTLY_DONE


def _check_watchable(*, dry_run: bool, pull: str | None, explain: str | None) -> None:
    """Refuse what is done once, and then is done."""
    given = {"--dry-run": dry_run, "--pull": pull is not None, "--explain": explain is not None}
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"{option} is done once, and --watch goes on", hint="leave one out")
