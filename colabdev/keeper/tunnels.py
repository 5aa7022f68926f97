"""The tunnel of a runtime: held open from here, and its address in the record."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

from colabdev.errors import ColabdevError, RuntimeUnreachable
from colabdev.models import RuntimeRecord, SshAddress
from colabdev.models.tunnels import Endpoint, TunnelState
from colabdev.ports import RuntimeStore
from colabdev.ports.tunnels import HeldAgent, Tunnel

log = logging.getLogger(__name__)

Reach = Callable[[SshAddress], HeldAgent]
"""An agent over the provider's own way to that machine."""


class TunnelHolder:
    """Has the tunnel run on the runtime, over the provider's own way, and writes each new address into
    the record, where the link and the host entry find it.

    That way stays open meanwhile: it is where a new address comes back when the tunnel's own
    connections are cut, and what can say why they are.
    """

    def __init__(
        self,
        name: str,
        store: RuntimeStore,
        *,
        reach: Reach,
        find_tunnel: Callable[[str], Tunnel],
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called after each word of the tunnel's that may help a connection."""
        self._name = name
        self._store = store
        self._reach = reach
        self._find_tunnel = find_tunnel
        self._changed = changed
        self._state = TunnelState()
        self._error: ColabdevError | None = None

    def run(self, stopping: threading.Event, delays: Callable[[], Iterator[float]]) -> None:
        """Until told to stop, or that there is no tunnel: another one gets another keeper."""
        pauses = delays()
        while not stopping.is_set() and self._has_tunnel():
            self._state = TunnelState()
            try:
                for state in self._states():
                    self._take(state)
                    pauses = delays()
            except ColabdevError as exc:
                before, self._error = self._error, exc
                if before is None or exc.message != before.message:
                    log.warning("cannot hold the tunnel of %s: %s", self._name, exc.message)
                    self._changed()
            stopping.wait(next(pauses))

    def blame(self, error: RuntimeUnreachable) -> ColabdevError:
        """`error`, of a connection by the tunnel, with the cause that the tunnel itself tells."""
        problem = self._state.problem
        if problem is not None:
            return problem.error()
        if self._state.endpoint is None and self._error is not None:
            return self._error
        if self._state.endpoint is not None:
            said = f"{error.message}; yet the tunnel is up, says the runtime"
            return RuntimeUnreachable(said, hint=self._state.doubt or error.hint)
        return error

    def unknown_address(self) -> ColabdevError:
        """Why there is no address yet."""
        return self.blame(
            RuntimeUnreachable(
                f"the tunnel of {self._name!r} is starting",
                hint="colabdev status says when it is up",
            )
        )

    def _has_tunnel(self) -> bool:
        try:
            record = self._store.load(self._name)
        except ColabdevError:
            return True  # Unreadable is not gone.
        return record is not None and record.tunnel is not None

    def _states(self) -> Iterator[TunnelState]:
        record = self._store.load(self._name)
        if record is None or record.machine is None or record.tunnel is None:
            return
        there = record.machine.ssh
        with closing(self._reach(there)) as agent:
            yield from self._find_tunnel(record.tunnel.kind).hold(
                agent, record.tunnel.wish, there.port
            )

    def _take(self, state: TunnelState) -> None:
        self._state, self._error = state, None
        if state.endpoint is not None:
            self._keep(state.endpoint)
        if state.problem is not None:
            log.warning("the tunnel of %s: %s", self._name, state.problem.message)
        self._changed()

    def _keep(self, endpoint: Endpoint) -> None:
        def led(record: RuntimeRecord) -> RuntimeRecord:
            if record.tunnel is None or record.tunnel.endpoint == endpoint:
                return record
            log.info("the tunnel of %s ends at %s:%d", self._name, endpoint.host, endpoint.port)
            return replace(record, tunnel=replace(record.tunnel, endpoint=endpoint))

        self._store.update(self._name, led)
