"""The one SSH connection of a keeper: opened, watched, and opened again when it breaks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from colabdev.errors import (
    AuthNeeded,
    ColabdevError,
    HostKeyMismatch,
    NoCapacity,
    RuntimeUnreachable,
    SshRefused,
    runtime_lost,
)

log = logging.getLogger(__name__)

REFUSED_RETRY_S = 5.0
REFUSED_RETRY_CAP_S = 300.0
"""Doubled up to here: a host that is asked with wrong keys for hours may well lock its user out."""
GONE_CHECK_INTERVAL_S = 2.0
LOST_LOOK_S = 1.0
"""So often the link of a machine that is gone looks whether there is another one."""


class LinkState(StrEnum):
    """How the connection stands. REFUSED: the host key, the login or the tunnel's account is wrong, or
    SSH is not to be had; waiting does not help."""

    CONNECTING = "connecting"
    READY = "ready"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    LOST = "lost"


class Connection(Protocol):
    """What the link needs of a connection."""

    def is_alive(self) -> bool: ...

    def wait_dead(self, timeout_s: float) -> bool: ...

    def close(self) -> None: ...


ConnectionT = TypeVar("ConnectionT", bound=Connection)


class Link(Generic[ConnectionT]):
    """Keeps one connection open until stopped. When the machine is gone for certain it waits for the
    next one of that name."""

    def __init__(
        self,
        name: str,
        *,
        connect: Callable[[], ConnectionT],
        is_gone: Callable[[], bool],
        delays: Callable[[], Iterator[float]],
        connected: Callable[[ConnectionT], None],
    ) -> None:
        self.machine: Callable[[], str] = lambda: ""
        """What names the one there is now; "" while there is none."""
        self._lost_machine = ""
        self._name = name
        self._connect = connect
        self._is_gone = is_gone
        self._delays = delays
        self._connected = connected
        self._changed = threading.Condition(threading.RLock())
        self._stopping = threading.Event()
        self._try_now = threading.Event()
        self._connection: ConnectionT | None = None
        self._gone_checked = float("-inf")
        self._refused_delay_s = REFUSED_RETRY_S
        self.state = LinkState.CONNECTING
        self.error: ColabdevError | None = None
        self.since = datetime.now(UTC)

    def run(self) -> None:
        """Hold the connection; returns when stopped."""
        delays = self._delays()
        while not self._stopping.is_set():
            if self.state is LinkState.LOST and not self._has_another():
                self._try_now.wait(LOST_LOOK_S)
                self._try_now.clear()
                continue
            delay_s = self._hold_once(delays)
            if delay_s is None:
                delays = self._delays()
            else:
                self._try_now.wait(delay_s)
                self._try_now.clear()

    def stop(self) -> None:
        """Close the connection and let `run` return."""
        self._stopping.set()
        self._try_now.set()
        with self._changed:
            connection = self._connection
            self._changed.notify_all()
        if connection is not None:
            connection.close()

    def try_now(self) -> None:
        """Do not wait for the next try: something changed that may help, an address or a key."""
        with self._changed:
            if self.state is LinkState.REFUSED or (
                self.state is LinkState.LOST and self._has_another()
            ):
                self._enter(LinkState.CONNECTING, None)
        self._try_now.set()

    def is_of(self, machine: str) -> bool:
        """Whether it is that machine that is lost."""
        return self.state is LinkState.LOST and self._lost_machine == machine

    def connection(self, timeout_s: float) -> ConnectionT:
        """The open connection, waited for at most `timeout_s`; raises what stands in the way.

        A refused login or host key and a lost runtime raise at once: waiting does not help.
        """
        deadline = time.monotonic() + timeout_s
        if self.state is LinkState.LOST:
            self.try_now()  # Another one may be there by now.
        with self._changed:
            while True:
                # One that broke just now is as good as none: `run` is about to notice.
                if self._connection is not None and self._connection.is_alive():
                    return self._connection
                if self.state in (LinkState.REFUSED, LinkState.LOST) and self.error is not None:
                    raise self.error
                left_s = deadline - time.monotonic()
                if left_s <= 0 or self._stopping.is_set():
                    raise self.error or self._no_answer(timeout_s)
                self._changed.wait(left_s)

    def _hold_once(self, delays: Iterator[float]) -> float | None:
        """Open a connection and stay until it is dead. Returns the seconds to wait before the next
        try, None when the connection had been good."""
        try:
            connection = self._connect()
        except (HostKeyMismatch, AuthNeeded, NoCapacity, SshRefused) as exc:
            self._enter(LinkState.REFUSED, exc)
            self._note_if_gone()
            delay_s, self._refused_delay_s = self._refused_delay_s, self._refused_delay_s * 2
            return min(delay_s, REFUSED_RETRY_CAP_S)
        except ColabdevError as exc:
            self._enter(LinkState.UNREACHABLE, exc)
            self._note_if_gone()
            return next(delays)
        # In this order: whoever is given the connection may use all that stands on it.
        self._connected(connection)
        self._refused_delay_s = REFUSED_RETRY_S
        self._enter(LinkState.READY, None, connection)
        while not self._stopping.is_set() and not connection.wait_dead(1.0):
            pass
        connection.close()
        if not self._stopping.is_set():
            self._enter(LinkState.UNREACHABLE, self._cut())
        return None

    def _note_if_gone(self) -> None:
        """Ask the provider, not too often: only its word makes a runtime lost."""
        if time.monotonic() - self._gone_checked < GONE_CHECK_INTERVAL_S:
            return
        machine = self.machine()  # Before: the next one may be there when the answer is.
        try:
            gone = self._is_gone()
        except ColabdevError as exc:
            log.warning("cannot ask the provider about %s: %s", self._name, exc.message)
            gone = False
        self._gone_checked = time.monotonic()
        if gone:
            self._lost_machine = machine
            self._enter(LinkState.LOST, runtime_lost(self._name))

    def _has_another(self) -> bool:
        return self.machine() not in ("", self._lost_machine)

    def _enter(
        self,
        state: LinkState,
        error: ColabdevError | None,
        connection: ConnectionT | None = None,
    ) -> None:
        with self._changed:
            if state is not self.state:
                log.info("%s is %s%s", self._name, state.value, f": {error}" if error else "")
                self.since = datetime.now(UTC)
            self.state, self.error, self._connection = state, error, connection
            self._changed.notify_all()

    def _cut(self) -> RuntimeUnreachable:
        return RuntimeUnreachable(
            f"the connection to {self._name!r} was cut; reconnecting",
            hint="colabdev status says when it is back",
        )

    def _no_answer(self, timeout_s: float) -> RuntimeUnreachable:
        return RuntimeUnreachable(
            f"cannot reach {self._name!r}: no connection within {timeout_s:.0f} s",
            hint="colabdev status says how it stands",
        )
