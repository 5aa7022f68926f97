"""`init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import render
from colabdev.cli.runtimes import JsonOption
from colabdev.errors import ExitCode

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def complete_template(ctx: typer.Context, incomplete: str) -> list[str]:
    """The templates there are, for the shell's completion."""
    wiring: Wiring = ctx.find_root().obj
    return [name for name in wiring.templates().names() if name.startswith(incomplete)]


def init(
    ctx: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new or empty directory.", file_okay=False)
    ] = Path(),
    template: Annotated[
        str, typer.Option(help="What to start from.", autocompletion=complete_template)
    ] = "minimal",
    as_json: JsonOption = False,
) -> int:
    """Start a project from a template.

    Example: colabdev init digits --template pytorch
    """
    wiring: Wiring = ctx.obj
    project = wiring.projects().init(wiring.absolute(directory), template)
    render.initialized(project, as_json=as_json)
    return ExitCode.OK
