"""`ssh-config print`, `ssh-config repair`, `ssh-config remove`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import render_entries
from colabdev.cli.options import JsonOption, complete_name
from colabdev.errors import ExitCode

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring

EntryArgument = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="A runtime's. Default: all.", autocompletion=complete_name),
]


def print_(ctx: typer.Context, name: EntryArgument = None) -> int:
    """Print the host entries, as ssh reads them, and the line that includes them.

    Example: colabdev ssh-config print
    """
    wiring: Wiring = ctx.obj
    render_entries.entries(wiring.entries().show(name), alone=name is not None)
    return ExitCode.OK


def repair(ctx: typer.Context, as_json: JsonOption = False) -> int:
    """Write the host entries anew from what is known of the runtimes, and take out the others.

    Example: colabdev ssh-config repair
    """
    wiring: Wiring = ctx.obj
    repaired = wiring.entries().repair()
    render_entries.repaired(repaired, as_json=as_json)
    if repaired.unreadable:
        return ExitCode.STATE_UNREADABLE
    return ExitCode.PARTLY_DONE if repaired.by_hand or repaired.overruled else ExitCode.OK


def remove(ctx: typer.Context, name: EntryArgument = None, as_json: JsonOption = False) -> int:
    """Take host entries out; all of them with the line in your own configuration. Runtimes stay.

    Example: colabdev ssh-config remove
    """
    wiring: Wiring = ctx.obj
    removed = wiring.entries().remove(name)
    render_entries.removed(removed, as_json=as_json)
    return ExitCode.PARTLY_DONE if removed.by_hand else ExitCode.OK
