"""`init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import render
from colabdev.cli.options import JsonOption
from colabdev.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def complete_template(ctx: typer.Context, incomplete: str) -> list[str]:
    """The templates there are, for the shell's completion."""
    wiring: Wiring = ctx.find_root().obj
    return [name for name in wiring.templates().names() if name.startswith(incomplete)]


def init(
    ctx: typer.Context,
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A new or empty directory; a project that is there gets colabdev.toml alone.",
            file_okay=False,
        ),
    ] = Path(),
    template: Annotated[
        str | None,
        typer.Option(
            help="What to start from. Default: minimal.", autocompletion=complete_template
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="PART", help="One file of the PyTorch template: checkpoint."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Start a project from a template.

    Example: colabdev init digits --template pytorch
    """
    wiring: Wiring = ctx.obj
    target = wiring.absolute(directory)
    if only is None:
        project = wiring.projects().init(target, template)
    elif template is None:
        project = wiring.projects().init_only(target, only)
    else:
        raise UsageError(
            "--only takes no --template", hint=f"colabdev init --only {only} adds the one file"
        )
    render.initialized(project, as_json=as_json)
    return ExitCode.OK
