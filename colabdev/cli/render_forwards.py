"""Ports that lead to a runtime, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from colabdev.cli import output

if TYPE_CHECKING:
    from colabdev.services.forwards import OpenForward
    from colabdev.services.web_tools import Page


def forwarding(runtime: str, forwards: Sequence[OpenForward], *, as_json: bool) -> None:
    """The ports that are led there from now on."""
    if as_json:
        rows = [
            {"local_port": one.local.port, "host": one.forward.host, "port": one.forward.port}
            for one in forwards
        ]
        output.document({"runtime": runtime, "forwards": rows})
        return
    for one in forwards:
        output.line(f"127.0.0.1:{one.local.port} -> {runtime} {_there(one)}")
    output.progress("Ctrl-C ends it")


def page(page: Page, url: str, *, as_json: bool) -> None:
    """Where a browser finds the page."""
    assert page.job is not None, "it runs"
    if as_json:
        output.document({"runtime": page.runtime.name, "job": page.job.id, "url": url})
        return
    output.line(url)
    output.progress(f"Ctrl-C leaves it running; colabdev stop {page.job.id} ends it")


def _there(one: OpenForward) -> str:
    host = f"[{one.forward.host}]" if ":" in one.forward.host else one.forward.host
    return f"{host}:{one.forward.port}"
