"""`connect`, `status`, `down`."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from colabdev.cli import output, render, render_colab
from colabdev.cli.options import JsonOption, complete_name
from colabdev.cli.requests import (
    connect_request,
    hardware_wish,
    keeps_editor,
    wanted_environment,
)
from colabdev.errors import ColabdevError, ExitCode
from colabdev.models import RuntimeRecord, RuntimeState
from colabdev.services.outlooks import outlooks_of

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def connect(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            help="The runtime's name and SSH alias. Default: the provider's name.",
            autocompletion=complete_name,
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="colab, notebook, local or ssh. Default: colabdev.toml's, else colab."),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            help="The python3 of a local runtime. Default: the one a new shell of yours finds."
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="A host of your own, for provider ssh: what you type after ssh (USER@HOST[:PORT])."
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="Colab: T4, L4, A100, … or none, in this order. Default: colabdev.toml's, else T4.",
        ),
    ] = None,
    high_mem: Annotated[bool, typer.Option("--high-mem", help="Colab: more memory.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Colab: ask again until there is one.")
    ] = False,
    adopt: Annotated[
        str | None,
        typer.Option(metavar="ENDPOINT", help="Colab: use this runtime, which was made elsewhere."),
    ] = None,
    tunnel: Annotated[
        str | None,
        typer.Option(
            help="How SSH reaches it: auto, ngrok, colab, cloudflared, direct or colab-ssh. "
            "Default: colabdev.toml's, else auto."
        ),
    ] = None,
    allow_ip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="auto|NETWORK",
            help="ngrok: let nobody else connect; auto is this computer. May be repeated.",
        ),
    ] = None,
    ngrok_url: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="ngrok: your reserved address."),
    ] = None,
    code: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="Notebook: what the cell of colabdev notebook printed."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Start a runtime, or reconnect to it.

    Example: colabdev connect --provider local
    Example: colabdev connect --gpu T4,L4
    Example: colabdev connect gpu --provider ssh --host me@gpu.example.com
    Example: colabdev connect --gpu T4 --tunnel ngrok --allow-ip auto
    """
    wiring: Wiring = ctx.obj
    hardware = hardware_wish(gpu, high_memory=high_mem, wait=wait, adopt=adopt)
    request = connect_request(
        wiring,
        name,
        provider,
        python,
        host,
        hardware,
        tunnel=tunnel,
        allow_ip=allow_ip or (),
        ngrok_url=ngrok_url,
        code=code,
    )
    begun = datetime.now(UTC)
    status = wiring.runtimes().connect(request, output.progress)
    _bring_what_drive_keeps(wiring, status.record, is_new=status.record.created >= begun)
    ssh_command = wiring.host_entries().short_command(request.name)
    render.connected(status, ssh_command, request.tunnel_line, as_json=as_json)
    return ExitCode.OK


def _bring_what_drive_keeps(wiring: Wiring, record: RuntimeRecord, *, is_new: bool) -> None:
    """What the machine before had installed; editors' servers each time, which has them kept, too."""
    warm_start = wiring.starts().warm_start
    if is_new:
        warm_start().bring(record, wanted_environment(), output.progress)
    if keeps_editor():
        warm_start().bring_editors(record, output.progress)


def status(ctx: typer.Context, as_json: JsonOption = False) -> int:
    """Say how every runtime stands.

    Example: colabdev status --json
    """
    wiring: Wiring = ctx.obj
    listing = wiring.runtimes().survey()
    wiring.recovery().hand_overs().tell(output.progress)
    ready = [item.record for item in listing.runtimes if item.state is RuntimeState.READY]
    seen = wiring.glances().look(ready) if ready else {}
    account: dict[str, Any] = {}
    overview = None
    try:
        overview = wiring.colab().overview()
        if overview is not None:
            account = render_colab.overview_json(overview, listing.runtimes)
    except ColabdevError as exc:
        account = {"account": {"problem": exc.to_json()}}
    prices = wiring.colab().prices(overview)
    hand_overs = wiring.recovery().hand_overs()
    outlooks = outlooks_of(listing.runtimes, seen, prices, hand_overs.left)
    fates = {
        item.record.name: hand_overs.fates(item.record)
        for item in listing.runtimes
        if item.state in (RuntimeState.LOST, RuntimeState.STARTING)
    }
    render.listing(listing, seen, outlooks, fates, as_json=as_json, more=account)
    if not as_json:
        render_colab.overview(account)
    return ExitCode.STATE_UNREADABLE if listing.unreadable else ExitCode.OK


def down(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="The runtime; default: this project's.", autocompletion=complete_name),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every runtime.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be released, and stop.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Give up edits that are nowhere but there.")
    ] = False,
    request: Annotated[str | None, typer.Option("--request", hidden=True)] = None,
    as_json: JsonOption = False,
) -> int:
    """Give a runtime back: its projects are handed to Drive, its disk is deleted.

    A host of your own keeps your files.

    Example: colabdev down local
    """
    wiring: Wiring = ctx.obj
    releases = wiring.releases()
    if everything:
        names = releases.all_to_release(name)
    else:
        choose = partial(wiring.known_runtimes().choose, naming="colabdev down {}")
        names = releases.to_release(wiring.named(name), wiring.project_path(), choose)
    if dry_run:
        render.would_release(releases.would_release(names), as_json=as_json)
        return ExitCode.OK
    bring_home = partial(wiring.drive().homecoming().bring, force=force)
    released = releases.down(names, output.progress, bring_home, request_id=request)
    render.released(released, as_json=as_json)
    failure = next((release.error.exit_code for release in released if release.error), None)
    if failure is not None:
        return failure
    return ExitCode.PARTLY_DONE if any(release.running for release in released) else ExitCode.OK
