"""`restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render_drive
from colabdev.cli.options import JsonOption, RuntimeOption
from colabdev.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def restore(
    ctx: typer.Context,
    project: Annotated[
        str | None, typer.Argument(help="The project's name on Drive. Default: list them.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new or empty folder. Default: ./PROJECT."),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(metavar="TREE", help="The beginning of a tree's hash. Default: the newest."),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Say which versions there are, and stop.")
    ] = False,
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Bring a project from a runtime's Drive to this computer.

    Example: colabdev restore digits --to ~/digits
    """
    wiring: Wiring = ctx.obj
    if project is None and (to is not None or version is not None):
        raise UsageError("cannot restore without a project", hint="colabdev restore --list")
    archives = wiring.drive().archives()
    record = wiring.known_runtimes().choose(wiring.named(runtime), wiring.project_path())
    if project is None or listing:
        render_drive.stored_projects(archives.list(record, project), as_json=as_json)
        return ExitCode.OK
    target = wiring.absolute(to if to is not None else Path(project))
    restored = archives.restore(record, project, target, version, output.progress)
    render_drive.restored(restored, as_json=as_json)
    return ExitCode.PARTLY_DONE if restored.problems else ExitCode.OK
