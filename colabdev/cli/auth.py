"""`auth`: the Google login, the ngrok token, and the terms of use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render_auth, terminal
from colabdev.cli.options import JsonOption
from colabdev.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring

_MOST_OF_A_TOKEN = 10_000


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
    """Say which Google login is used and whether it works, and where that and the ngrok token are kept.

    Example: colabdev auth status
    """
    wiring: Wiring = ctx.obj
    found = wiring.colab().login().status()
    token, use = wiring.ngrok_tokens().place(), wiring.ngrok_use().read()
    render_auth.login_status(found, token, use, as_json=as_json)
    return found.problem.exit_code if found.problem else ExitCode.OK


def logout(ctx: typer.Context) -> int:
    """Take the login back at Google and forget it here; gcloud's own is left.

    Example: colabdev auth logout
    """
    wiring: Wiring = ctx.obj
    render_auth.logged_out(wiring.colab().login().logout())
    return ExitCode.OK


def ngrok(
    ctx: typer.Context,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the token.")] = False,
) -> int:
    """Keep your ngrok token, which you are asked for, or which stdin has.

    Example: colabdev auth ngrok < token.txt
    """
    wiring: Wiring = ctx.obj
    tokens = wiring.ngrok_tokens()
    if remove:
        render_auth.ngrok_forgotten(tokens.forget())
        return ExitCode.OK
    typed = terminal.ask_secret("ngrok authtoken")
    render_auth.ngrok_kept(tokens.keep(_piped() if typed is None else typed))
    return ExitCode.OK


def _piped() -> str:
    """What stdin has, which is no terminal; a closed one has nothing."""
    try:
        return sys.stdin.read(_MOST_OF_A_TOKEN) if sys.stdin is not None else ""
    except (OSError, ValueError):
        return ""  # Closed, or no text.


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
