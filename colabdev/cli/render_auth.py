"""What `auth` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from colabdev.cli import output

if TYPE_CHECKING:
    from colabdev.providers.colab.login import LoginStatus


def logged_in(status: LoginStatus) -> None:
    """The end of `auth login`."""
    output.line(f"logged in to Google as {status.email}; the login is kept in {status.where}")


def login_status(status: LoginStatus, *, as_json: bool) -> None:
    """The login that is used, or why there is none."""
    if as_json:
        login = {
            "source": status.source,
            "where": status.where,
            "email": status.email,
            "scopes": list(status.scopes),
            "usable": status.problem is None,
        }
        error = {"error": status.problem.to_json()} if status.problem else {}
        output.document({"login": login, **error})
        return
    if status.problem is not None:
        output.error(status.problem, as_json=False)
        return
    made = "by colabdev auth login" if status.source == "own client" else "by gcloud"
    output.line(f"logged in to Google as {status.email}, {made}; kept in {status.where}")


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
