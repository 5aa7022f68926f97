"""`code`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render_entries, requests
from colabdev.cli.options import JsonOption, RuntimeOption
from colabdev.errors import ExitCode

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def code(
    ctx: typer.Context,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="On the runtime, from the work dir.")
    ] = ".",
    editor: Annotated[
        str | None,
        typer.Option(
            help="code, code-insiders, cursor, windsurf or codium. Default: the one installed."
        ),
    ] = None,
    settings: Annotated[
        bool,
        typer.Option("--settings", help="Write into the editor's settings that the host is Linux."),
    ] = False,
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Open a folder of the runtime in VS Code, or an editor made from it.

    Example: colabdev code
    Example: colabdev code src --editor cursor
    """
    wiring: Wiring = ctx.obj
    project = requests.own_project_names()
    record = wiring.known_runtimes().choose(wiring.named(runtime), project[0])
    editors = wiring.editors()
    kind = editors.choose(editor)
    editors.settle(kind, record.name, output.progress, write=settings)
    opened = editors.open(kind, record, project, path, output.progress)
    render_entries.opened(record.name, opened, as_json=as_json)
    return ExitCode.OK
