"""Ports that lead to a runtime, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from colabdev.cli import output
from colabdev.services.forwards import OpenForward


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


def _there(one: OpenForward) -> str:
    host = f"[{one.forward.host}]" if ":" in one.forward.host else one.forward.host
    return f"{host}:{one.forward.port}"
