"""`data push`, `data pull`, `data ls`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render_drive
from colabdev.cli.options import JsonOption, RuntimeOption
from colabdev.core.sizes import parse_size
from colabdev.errors import ExitCode

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def push(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of this computer.")],
    name: Annotated[
        str | None, typer.Option(help="The data set's name. Default: the folder's.")
    ] = None,
    shard_size: Annotated[
        str, typer.Option(help="Files are packed into tars of about this size.")
    ] = "500M",
    force: Annotated[
        bool, typer.Option("--force", help="Also through ngrok, whose free plan has 1 GB a month.")
    ] = False,
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Put a folder on the runtime's Drive as a few large shards; typed again it goes on.

    Example: colabdev data push ~/datasets/flowers
    """
    wiring: Wiring = ctx.obj
    path = wiring.absolute(folder)
    shard_bytes = parse_size(shard_size)
    record = wiring.known_runtimes().choose(wiring.named(runtime), wiring.project_path())
    pushed = (
        wiring.drive()
        .data_sets(force=force)
        .push(record, path, path.name if name is None else name, shard_bytes, output.progress)
    )
    render_drive.pushed(pushed, as_json=as_json)
    return ExitCode.PARTLY_DONE if pushed.plan.problems else ExitCode.OK


def pull(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The data set's name.")],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Where on the runtime. Default: data/NAME beside the work dirs."
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The beginning of a content id. Default: the newest."),
    ] = None,
    runtime: RuntimeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Copy a data set from Drive to the runtime's own disk, once; whole, or not there.

    Example: colabdev data pull flowers
    """
    wiring: Wiring = ctx.obj
    record = wiring.known_runtimes().choose(wiring.named(runtime), wiring.project_path())
    pulled = wiring.drive().data_sets().pull(record, name, to, version, output.progress)
    render_drive.pulled(pulled, as_json=as_json)
    return ExitCode.OK


def ls(ctx: typer.Context, runtime: RuntimeOption = None, as_json: JsonOption = False) -> int:
    """List the data sets on the runtime's Drive.

    Example: colabdev data ls
    """
    wiring: Wiring = ctx.obj
    record = wiring.known_runtimes().choose(wiring.named(runtime), wiring.project_path())
    render_drive.data_sets(wiring.drive().data_sets().list(record), as_json=as_json)
    return ExitCode.OK
