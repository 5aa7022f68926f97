"""`--tunnel ngrok`: ngrok's own SDK on the runtime, in a process that the agent's supervisor keeps; and
`--tunnel colab-ssh`: the same, opened by the classic `launch_ssh`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colabdev.adapters.runtime_pins import runtime_pins
from colabdev.core.ngrok_problems import FINAL_CODES, explain_ngrok
from colabdev.core.tunnels import AUTO, COLAB_SSH, NGROK
from colabdev.errors import AuthNeeded, UsageError
from colabdev.models.tunnels import TunnelState, TunnelUse
from colabdev.ports.tunnels import AgentRequests
from colabdev.tunnels.states import parse_state

BEAT_S = 10
TOLERANCE_S = 15
_METADATA = '{"tool": "colabdev"}'
"""Shown on the account's dashboard."""


@dataclass(frozen=True, slots=True)
class NgrokServer:
    """Where ngrok is. Stand-ins say `COLABDEV_NGROK_SERVER` (HOST:PORT) and `COLABDEV_NGROK_CA` (a
    file)."""

    address: str | None = None
    certificates: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> NgrokServer:
        """As the variables say; ngrok's own without them."""
        file = environment.get("COLABDEV_NGROK_CA")
        try:
            certificates = Path(file).read_text(encoding="ascii") if file else None
        except (OSError, ValueError) as exc:
            raise UsageError(
                f"cannot read ngrok's certificates: {exc}", hint="mend COLABDEV_NGROK_CA"
            ) from exc
        return cls(environment.get("COLABDEV_NGROK_SERVER") or None, certificates)


class NgrokTunnel:
    """`ports.tunnels.Tunnel`."""

    def __init__(
        self,
        kind: str = NGROK,
        *,
        token: Callable[[], str],
        server: NgrokServer,
        own_networks: Callable[[], Sequence[str]],
        timing: Mapping[str, float],
    ) -> None:
        """`token` raises `AuthNeeded` without one. `own_networks` are those that this computer is seen
        from. `timing`: see `agent.tunnel.Timing`; what it leaves out is the agent's."""
        self._kind = kind
        self._token = token
        self._server = server
        self._own_networks = own_networks
        self._timing = dict(timing)

    @property
    def kind(self) -> str:
        return self._kind

    def hold(self, agent: AgentRequests, use: TunnelUse, port: int) -> Iterator[TunnelState]:
        token, missing = "", None
        try:
            token = self._token()
        except AuthNeeded as exc:
            missing = exc  # What runs already has its own.
        allowed = replace(use, allow_ip=self._allowed(use))
        asked = asked_of_ngrok(allowed, port, self._server, self._timing)
        for header, _ in agent.stream("tunnel.hold", {"asked": asked}, token.encode()):
            if missing is not None and header.get("needs_secret"):
                raise missing
            state = parse_state(header["state"], explain_ngrok)
            yield replace(state, doubt=_doubt(use))

    def _allowed(self, use: TunnelUse) -> tuple[str, ...]:
        own = self._own_networks() if AUTO in use.allow_ip else ()
        return tuple(sorted({*own, *(network for network in use.allow_ip if network != AUTO)}))


def asked_of_ngrok(
    use: TunnelUse, port: int, server: NgrokServer, timing: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """What the runtime's supervisor is asked for; see `agent.tunnel`. Of `use.allow_ip` nothing is
    `auto`."""
    timing = timing or {}
    beats = {
        "beat_s": int(timing.get("beat_s", BEAT_S)),
        "tolerance_s": int(timing.get("tolerance_s", TOLERANCE_S)),
    }
    modules, lines = ["ngrok"], [*runtime_pins("ngrok")]
    if use.kind == COLAB_SSH:
        modules += ["colab_ssh", "requests"]
        lines += [*runtime_pins("colab-ssh"), "requests"]
    return {
        "kind": "ngrok-session" if use.kind == NGROK else use.kind,
        "has_secret": True,
        "modules": modules,
        "lines": lines,
        "final": list(FINAL_CODES),
        "timing": {name: s for name, s in timing.items() if name not in beats},
        "settings": {
            "port": port,
            "allow": list(use.allow_ip),
            "url": use.url,
            "metadata": _METADATA,
            "server": server.address,
            "ca": server.certificates,
            **beats,
        },
    }


def _doubt(use: TunnelUse) -> str:
    allowed = f"from outside {', '.join(use.allow_ip)} (--allow-ip), " if use.allow_ip else ""
    return (
        f"ngrok hangs up without a word {allowed}when the month's transfer or connections are used up, "
        "and above 100 connections a minute (free plan): https://dashboard.ngrok.com/usage"
    )
