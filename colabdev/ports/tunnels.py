"""Ways for SSH to a runtime that its provider does not give by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from colabdev.models.tunnels import TunnelState, TunnelUse


class AgentRequests(Protocol):
    """As much of `ports.AgentStream` as a tunnel needs."""

    def stream(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> Iterator[tuple[Mapping[str, object], bytes]]:
        """Ask, and give each frame of the answer as it comes."""


class HeldAgent(AgentRequests, Protocol):
    """An agent over a connection of its own."""

    def close(self) -> None:
        """End both."""


class Tunnel(Protocol):
    """Brings SSH bytes to a runtime from anywhere.

    The keeper has it opened by an agent that it reached over the provider's own way (`machine.ssh`),
    which is authenticated and is where a new address comes back. What it starts on the runtime outlives
    the agent, and is found again.
    """

    @property
    def kind(self) -> str:
        """The tunnel's word on the command line."""

    def hold(self, agent: AgentRequests, use: TunnelUse, port: int) -> Iterator[TunnelState]:
        """Have the tunnel run on the runtime, as `use` asks for it, to 127.0.0.1:`port` there, and tell
        how it stands, at once and whenever that changes, until the agent goes. One that runs already
        and was asked for alike is found; any other ends.

        `ColabdevError` when it cannot be begun: `AuthNeeded` where a token is missing.
        """


CLOSE_REQUEST = "tunnel.close"
"""The agent's request that ends whatever tunnel there is; harmless without one."""
