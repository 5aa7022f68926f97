"""`notebook`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output
from colabdev.cli.options import JsonOption
from colabdev.errors import ExitCode

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def notebook(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Write a notebook to upload, instead of the cell."),
    ] = None,
    tunnel: Annotated[
        str | None, typer.Option(help="What leads to its machine: ngrok, cloudflared or colab-ssh.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Print the one cell that makes a browser's Colab a runtime of yours, with no Google login here.

    Example: colabdev notebook | xclip -selection clipboard
    Example: colabdev notebook colabdev.ipynb
    """
    wiring: Wiring = ctx.obj
    filled = wiring.filled_notebook(tunnel)
    written = wiring.notebooks().write(wiring.absolute(file), filled) if file is not None else None
    if as_json:
        output.document({"cell": filled.cell, "file": str(written) if written else None})
    elif written is not None:
        output.line(str(written))
    else:
        output.line(filled.cell.rstrip("\n"))
    place = (
        "upload it to https://colab.research.google.com" if written else "paste it into a new one"
    )
    output.progress(f"{place}, run the cell, and type what it prints")
    return ExitCode.OK
