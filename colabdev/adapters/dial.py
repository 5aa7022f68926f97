"""A TCP connection as soon as the path allows one."""

from __future__ import annotations

import itertools
import os
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Any

_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""What getaddrinfo says of one address."""

_STAGGER_S = 0.4
"""A lost SYN is only repeated by the kernel after 1 s, then 3 s; on a path that comes back we want
to be through long before that, so another attempt is sent beside the waiting ones. The attempts take
turns over the host's addresses, so that a dead IPv6 path does not hide a good IPv4 one."""


def dial(host: str, port: int, *, timeout_s: float) -> socket.socket:
    """A connected socket with TCP_NODELAY set; OSError when refused, unreachable or out of time.

    paramiko never sets TCP_NODELAY, so the socket is made here.
    """
    with _Race() as race:
        return race.run(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), timeout_s)


class _Race:
    """Attempts side by side; the first to connect wins, and the others are closed."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._pending: set[socket.socket] = set()
        self._failure: OSError | None = None

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for loser in self._pending:
            loser.close()

    def run(self, addresses: Sequence[_Address], timeout_s: float) -> socket.socket:
        deadline = time.monotonic() + timeout_s
        answers = 0
        for address in itertools.cycle(addresses):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"no answer within {timeout_s:.0f} s")
            if self._begin(address):
                winner = self._wait(min(_STAGGER_S, left_s))
                if winner is not None:
                    return winner
            if self._failure is not None:
                # Each address may say no once; then the host has.
                answers += 1
                if answers == len(addresses):
                    raise self._failure
                self._failure = None
        raise AssertionError("getaddrinfo gives at least one address")

    def _begin(self, address: _Address) -> bool:
        """Start another attempt; False when it failed at once."""
        family, kind, protocol, _, place = address
        attempt = socket.socket(family, kind, protocol)
        self._pending.add(attempt)
        attempt.setblocking(False)
        try:
            attempt.connect(place)
        except BlockingIOError:
            pass
        except OSError as exc:
            self._failure = exc
            return False
        self._selector.register(attempt, selectors.EVENT_WRITE)
        return True

    def _wait(self, timeout_s: float) -> socket.socket | None:
        """The first attempt that connects within `timeout_s`; a failed one ends the wait."""
        for key, _ in self._selector.select(timeout_s):
            attempt = key.fileobj
            assert isinstance(attempt, socket.socket), "only sockets are registered"
            code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._selector.unregister(attempt)
            if code == 0:
                self._pending.remove(attempt)
                return _configured(attempt)
            self._failure = OSError(code, os.strerror(code))
        return None


def _configured(winner: socket.socket) -> socket.socket:
    winner.setblocking(True)
    winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return winner
