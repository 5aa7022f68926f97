"""What `auth` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from colabdev.cli import output
from colabdev.core.ngrok_usage import describe_use

if TYPE_CHECKING:
    from colabdev.adapters.ngrok_token import NgrokTokenPlace
    from colabdev.core.ngrok_usage import MonthUse
    from colabdev.providers.colab.login import LoginStatus


def logged_in(status: LoginStatus) -> None:
    """The end of `auth login`."""
    output.line(f"logged in to Google as {status.email}; the login is kept in {status.where}")


def login_status(
    status: LoginStatus, ngrok: NgrokTokenPlace | None, use: MonthUse, *, as_json: bool
) -> None:
    """The login that is used, or why there is none; where the ngrok token is, and what of its
    plan was used, as far as that was counted."""
    if as_json:
        login = {
            "source": status.source,
            "where": status.where,
            "email": status.email,
            "scopes": list(status.scopes),
            "usable": status.problem is None,
        }
        error = {"error": status.problem.to_json()} if status.problem else {}
        counted = {
            "month": use.month,
            "bytes": use.size_bytes,
            "connections": use.connections,
            "of": "what went through colabdev",
        }
        token = {"where": ngrok.where, "counted": counted} if ngrok else None
        output.document({"login": login, "ngrok": token, **error})
        return
    if ngrok is not None:
        ngrok_kept(ngrok)
        output.line(f"  {describe_use(use)}")
    if status.problem is not None:
        output.error(status.problem, as_json=False)
        return
    made = "by colabdev auth login" if status.source == "own client" else "by gcloud"
    output.line(f"logged in to Google as {status.email}, {made}; kept in {status.where}")


def ngrok_kept(place: NgrokTokenPlace) -> None:
    """Where the token is."""
    output.line(f"the ngrok token is kept in {place.where}")


def ngrok_forgotten(was_there: bool) -> None:
    """The end of `auth ngrok --remove`."""
    output.line("the ngrok token is forgotten" if was_there else "there was no ngrok token")


def logged_out(was_in: bool) -> None:
    """The end of `auth logout`."""
    output.line("logged out" if was_in else "there was no login of colabdev's own")


def terms(text: str, *, accepted: bool) -> None:
    """The terms, and what was decided about them."""
    output.line(text)
    output.line("")
    if accepted:
        output.line("You said to use free runtimes over SSH all the same, at your own risk.")
        output.line("  colabdev auth terms --withdraw takes that back")
    else:
        output.line("Without a positive balance colabdev refuses SSH.")
        output.line("  colabdev auth terms --accept: do it all the same, at your own risk")
