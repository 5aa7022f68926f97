"""The processes that hold the connections to runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from colabdev.models import AgentHello, RuntimeRecord
from colabdev.ports.processes import Transport
from colabdev.ports.secrets import SecretHolder
from colabdev.ports.streams import AgentStream, ByteStream


class Keeper(Transport, SecretHolder, Protocol):
    """A runtime's keeper, connected and authenticated."""

    def link(self) -> Mapping[str, object]:
        """How the keeper's connection stands: `state` (connecting, ready, unreachable, lost or
        refused), `reason` when there is one (an error as JSON), `since`."""

    def wait_ready(self, timeout_s: float) -> AgentHello:
        """Wait until the runtime answers; raises what keeps it from doing so."""

    def agent(self) -> AgentStream:
        """An agent stream, handed out from the running spare."""

    def open_tcp(self, host: str, port: int) -> ByteStream:
        """A stream to host:port as seen from the runtime; waits a while for a connection that is cut.
        `ColabdevError` when nobody takes it there."""

    def quit(self) -> None:
        """End the keeper; returns when it is gone."""


class Keepers(Protocol):
    """The keepers of this computer."""

    def find(self, record: RuntimeRecord) -> Keeper | None:
        """The running keeper of this version; None when none answers."""

    def ensure(self, name: str) -> Keeper:
        """The runtime's keeper, started now when none of this version answers."""

    def agent(self, name: str) -> AgentStream:
        """An agent on the runtime, from the keeper that `ensure` gives; see `Keeper.agent`."""

    def stop(self, record: RuntimeRecord) -> None:
        """End the runtime's keeper, also one that does not answer; returns when it is gone."""
