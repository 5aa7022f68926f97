"""How a tunnel stands, as the runtime's supervisor says it (`agent.tunnel`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from colabdev.models.tunnels import Endpoint, TunnelProblem, TunnelState


def parse_state(told: object, explain: Callable[[str, str], TunnelProblem]) -> TunnelState:
    """What the agent's supervisor says of a tunnel; its failures are explained by `explain`."""
    assert isinstance(told, Mapping), "the agent says so"
    end, why = told.get("endpoint"), str(told.get("why") or "")
    endpoint = Endpoint(str(end["host"]), int(end["port"])) if isinstance(end, Mapping) else None
    problem = explain(why, str(told.get("code") or "")) if why else None
    return TunnelState(endpoint, problem)
