"""Options that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def complete_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of the runtimes known here, for the shell's completion."""
    wiring: Wiring = ctx.find_root().obj
    return [name for name in wiring.store().names() if name.startswith(incomplete)]


RuntimeOption = Annotated[
    str | None,
    typer.Option("-r", help="The runtime; default: this project's.", autocompletion=complete_name),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
