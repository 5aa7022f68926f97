"""The `cloudflared` tunnel: Cloudflare's quick tunnels, which need no account."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from colabdev.core.cloudflared import (
    DOWNLOAD_URL,
    PORT,
    PROGRAM,
    URL_VARIABLE,
    access_command,
    how_to_install,
)
from colabdev.errors import AgentUnusable, UsageError
from colabdev.models.tunnels import Endpoint, Remedy, TunnelProblem, TunnelState, TunnelUse
from colabdev.ports.tunnels import AgentRequests


class CloudflaredTunnel:
    """`ports.tunnels.Tunnel`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    @property
    def kind(self) -> str:
        return PROGRAM

    def hold(self, agent: AgentRequests, use: TunnelUse, port: int) -> Iterator[TunnelState]:
        program = find_cloudflared(self._environment)
        url = self._environment.get(URL_VARIABLE) or DOWNLOAD_URL
        for told, _ in agent.stream("cloudflared.hold", {"port": port, "url": url}):
            yield _state(told, program)


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


def endpoint_of(host: str, program: str) -> Endpoint:
    """The end of the quick tunnel of that name, for this computer; ValueError when it is no name."""
    command = access_command(program, host, windows=sys.platform == "win32")
    return Endpoint(host, PORT, command)


def _state(told: Mapping[str, Any], program: str) -> TunnelState:
    try:
        endpoint = endpoint_of(str(told["host"]), program) if "host" in told else None
        return TunnelState(endpoint, _problem(told["problem"]) if "problem" in told else None)
    except (ValueError, KeyError, TypeError) as exc:
        raise AgentUnusable(
            f"the runtime tells of its tunnel what makes no sense: {exc}",
            hint="colabdev connect starts another agent",
        ) from exc


def _problem(told: Mapping[str, Any]) -> TunnelProblem:
    remedy = Remedy.WAITING if told["waiting_helps"] else Remedy.USER
    return TunnelProblem(str(told["message"]), str(told["hint"]), remedy)
