"""`forward`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render_forwards
from colabdev.cli.runtimes import JsonOption, RuntimeOption
from colabdev.core.forwards import parse_forward
from colabdev.errors import ExitCode

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def forward(
    ctx: typer.Context,
    ports: Annotated[
        list[str],
        typer.Argument(metavar="PORT…", help="PORT, LOCAL:PORT or LOCAL:HOST:PORT, as for ssh -L."),
    ],
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Lead ports of this computer to the runtime, until Ctrl-C; a cut is mended.

    Example: colabdev forward 6006 8888:localhost:8888
    """
    wiring: Wiring = ctx.obj
    wanted = [parse_forward(word) for word in ports]
    record = wiring.runtimes().choose(wiring.named(runtime), wiring.project_path())
    forwards = wiring.forwards()
    with forwards.reserved(wanted, output.progress) as reserved:
        forwards.serve(record, reserved, output.progress)
        render_forwards.forwarding(record.name, reserved, as_json=as_json)
        forwards.wait(record.name)
    return ExitCode.OK
