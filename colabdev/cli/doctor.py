"""`doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import render
from colabdev.cli.runtimes import JsonOption, complete_name
from colabdev.errors import ExitCode

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def doctor(
    ctx: typer.Context,
    repair: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Rebuild an unreadable state file from the provider.",
            autocompletion=complete_name,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Look at everything colabdev needs here, and say what to type.

    Example: colabdev doctor --repair local
    """
    wiring: Wiring = ctx.obj
    if repair is not None:
        render.repaired(repair, wiring.runtimes().repair(repair), as_json=as_json)
        return ExitCode.OK
    results = wiring.doctor().examine()
    render.checks(results, as_json=as_json)
    return ExitCode.OK if all(check.ok for check in results) else ExitCode.FAILED
