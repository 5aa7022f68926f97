"""`--tunnel cloudflared`: Cloudflare's quick tunnels, which need no account."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from colabdev.core.cloudflared import (
    PROGRAM,
    access_command,
    download_url,
    explain_cloudflared,
    how_to_install,
)
from colabdev.core.connection_codes import Told
from colabdev.errors import AgentUnusable, UsageError
from colabdev.models.tunnels import Endpoint, TunnelState, TunnelUse
from colabdev.ports.tunnels import AgentRequests
from colabdev.tunnels.states import parse_state

_START_S = 180.0
"""The program is fetched first, some 40 MB."""


class CloudflaredTunnel:
    """`ports.tunnels.Tunnel`."""

    def __init__(self, environment: Mapping[str, str], timing: Mapping[str, float]) -> None:
        """`timing`: see `agent.tunnel.Timing`."""
        self._environment = environment
        self._timing = dict(timing)

    @property
    def kind(self) -> str:
        return PROGRAM

    def hold(self, agent: AgentRequests, use: TunnelUse, port: int) -> Iterator[TunnelState]:
        program = find_cloudflared(self._environment)
        asked = asked_of_runtime(self._environment, port, self._timing)
        for header, _ in agent.stream("tunnel.hold", {"asked": asked}):
            state = parse_state(header["state"], explain_cloudflared)
            yield replace(state, endpoint=_reached(state, program))


def asked_of_runtime(
    environment: Mapping[str, str], port: int, timing: Mapping[str, float]
) -> dict[str, Any]:
    """What the runtime's supervisor is asked for; see `agent.tunnel`."""
    return {
        "kind": PROGRAM,
        "has_secret": False,
        "modules": [],
        "lines": [],
        "final": [],
        "timing": {"start_s": _START_S, **timing},
        "settings": {"port": port, "program": download_url(environment)},
    }


def find_cloudflared(environment: Mapping[str, str]) -> str:
    """The program on this computer, by its whole path; `UsageError` says how to get it."""
    found = shutil.which(PROGRAM, path=environment.get("PATH"))
    if found is None:
        raise UsageError(
            f"the tunnel {PROGRAM!r} needs the program {PROGRAM} on this computer, where the PATH has "
            "none",
            hint=how_to_install(sys.platform),
        )
    return os.path.abspath(found)


def command_to(told: Told, environment: Mapping[str, str]) -> str | None:
    """What leads from here to the tunnel that a notebook's cell opened; None where it is dialled."""
    if told.tunnel != PROGRAM:
        return None
    return _command(find_cloudflared(environment), told.host)


def _reached(state: TunnelState, program: str) -> Endpoint | None:
    """The end of it with what leads there from here."""
    end = state.endpoint
    if end is None:
        return None
    try:
        return replace(end, proxy_command=_command(program, end.host))
    except ValueError as exc:
        raise AgentUnusable(
            f"the runtime tells of its tunnel what makes no sense: {exc}",
            hint="colabdev connect starts another agent",
        ) from exc


def _command(program: str, host: str) -> str:
    return access_command(program, host, windows=sys.platform == "win32")
