"""`local`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render
from colabdev.cli.options import JsonOption, complete_name
from colabdev.errors import ExitCode

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def kill(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(help="The runtime.", autocompletion=complete_name, show_default=False)
    ],
    as_json: JsonOption = False,
) -> int:
    """Let a local runtime die as Colab's VMs die: no warning, its disk gone, Drive kept.

    What colabdev remembers of it stays: it is lost now, and so are its jobs.

    Example: colabdev local kill local
    """
    wiring: Wiring = ctx.obj
    killed = wiring.rehearsal().kill(name, output.progress)
    going_on = wiring.recovery().hand_overs().to_go_on(name)
    if sys.platform == "darwin":
        output.say("  on macOS a daemon that left its parents may live on")
    render.killed(name, killed, going_on, as_json=as_json)
    return ExitCode.OK
