"""`--tunnel ngrok`: ngrok's own SDK on the runtime, in a process that the agent's supervisor keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from colabdev.adapters.runtime_pins import runtime_pins
from colabdev.core.ngrok_problems import FINAL_CODES, explain_ngrok
from colabdev.core.tunnels import AUTO
from colabdev.errors import UsageError
from colabdev.models.tunnels import Endpoint, TunnelProblem, TunnelState, TunnelUse
from colabdev.ports.tunnels import AgentRequests

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
        *,
        token: Callable[[], str],
        server: NgrokServer,
        own_networks: Callable[[], Sequence[str]],
        timing: Mapping[str, float],
    ) -> None:
        """`token` raises `AuthNeeded` without one. `own_networks` are those that this computer is seen
        from. `timing`: see `agent.ngrok_daemon.Timing`; what it leaves out is the agent's."""
        self._token = token
        self._server = server
        self._own_networks = own_networks
        self._timing = dict(timing)

    @property
    def kind(self) -> str:
        return "ngrok"

    def hold(self, agent: AgentRequests, use: TunnelUse, port: int) -> Iterator[TunnelState]:
        token = self._token()
        beats = {
            "beat_s": int(self._timing.get("beat_s", BEAT_S)),
            "tolerance_s": int(self._timing.get("tolerance_s", TOLERANCE_S)),
        }
        asked = {
            "kind": "ngrok-session",
            "modules": ["ngrok"],
            "lines": list(runtime_pins("ngrok")),
            "final": list(FINAL_CODES),
            "timing": {name: s for name, s in self._timing.items() if name not in beats},
            "settings": {
                "port": port,
                "allow": self._allowed(use),
                "url": use.url,
                "metadata": _METADATA,
                "server": self._server.address,
                "ca": self._server.certificates,
                **beats,
            },
        }
        for header, _ in agent.stream("ngrok.hold", {"asked": asked}, token.encode()):
            state = parse_state(header["state"], explain_ngrok)
            yield replace(state, doubt=_doubt(use))

    def _allowed(self, use: TunnelUse) -> list[str]:
        own = self._own_networks() if AUTO in use.allow_ip else ()
        return sorted({*own, *(network for network in use.allow_ip if network != AUTO)})


def _doubt(use: TunnelUse) -> str:
    allowed = f"from outside {', '.join(use.allow_ip)} (--allow-ip), " if use.allow_ip else ""
    return (
        f"ngrok hangs up without a word {allowed}when the month's transfer or connections are used up, "
        "and above 100 connections a minute (free plan): https://dashboard.ngrok.com/usage"
    )


def parse_state(told: object, explain: Callable[[str, str], TunnelProblem]) -> TunnelState:
    """What the agent's supervisor says of a tunnel; its failures are explained by `explain`."""
    assert isinstance(told, Mapping), "the agent says so"
    end, why = told.get("endpoint"), str(told.get("why") or "")
    endpoint = Endpoint(str(end["host"]), int(end["port"])) if isinstance(end, Mapping) else None
    problem = explain(why, str(told.get("code") or "")) if why else None
    return TunnelState(endpoint, problem)
