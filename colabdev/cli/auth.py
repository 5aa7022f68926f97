"""`auth`: the Google login, and the terms of use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render_auth, terminal
from colabdev.cli.runtimes import JsonOption
from colabdev.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def login(
    ctx: typer.Context,
    client: Annotated[
        Path | None,
        typer.Option(help="The JSON file of your own OAuth client; default: the one used last."),
    ] = None,
    no_browser: Annotated[
        bool,
        typer.Option("--no-browser", help="Show the page's address; the browser is elsewhere."),
    ] = False,
) -> int:
    """Log in to Google with an OAuth client of your own.

    Example: colabdev auth login --client client_secret.json
    """
    wiring: Wiring = ctx.obj
    if no_browser and not terminal.has_keyboard():
        raise UsageError(
            "cannot log in without a browser: the answer is pasted here, and stdin is no terminal",
            hint="type it in a terminal, or leave --no-browser out",
        )
    status = wiring.colab().log_in(client, ask=_ask if no_browser else None)
    render_auth.logged_in(status)
    return ExitCode.OK


def _ask(url: str) -> str:
    output.say(f"open this page, in any browser, and say yes:\n\n{url}\n")
    output.say("it ends at an address of 127.0.0.1 that may not open; paste that address here:")
    return terminal.typed_line()


def status(ctx: typer.Context, as_json: JsonOption = False) -> int:
    """Say which Google login is used, where it is kept, and whether it works.

    Example: colabdev auth status
    """
    wiring: Wiring = ctx.obj
    found = wiring.colab().login().status()
    render_auth.login_status(found, as_json=as_json)
    return found.problem.exit_code if found.problem else ExitCode.OK


def logout(ctx: typer.Context) -> int:
    """Take the login back at Google and forget it here; gcloud's own is left.

    Example: colabdev auth logout
    """
    wiring: Wiring = ctx.obj
    render_auth.logged_out(wiring.colab().login().logout())
    return ExitCode.OK


def terms(
    ctx: typer.Context,
    accept: Annotated[
        bool | None,
        typer.Option(
            "--accept/--withdraw",
            help="Use free runtimes over SSH all the same, at your own risk; or not any more.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Show what Colab's terms say of SSH, and whether free runtimes are used all the same.

    Example: colabdev auth terms
    """
    wiring: Wiring = ctx.obj
    if accept is not None:
        wiring.colab().set_free_tier_terms(accept=accept)
    render_auth.terms(
        wiring.colab().terms_text(), accepted=wiring.colab().accepts_free_tier_terms()
    )
    return ExitCode.OK
