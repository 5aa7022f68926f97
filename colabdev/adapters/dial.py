"""A TCP connection as soon as the path allows one."""

from __future__ import annotations

import os
import selectors
import socket
import time

_STAGGER_S = 0.4
"""A lost SYN is only repeated by the kernel after 1 s, then 3 s; on a path that comes back we want
to be through long before that, so another attempt is sent beside the waiting ones."""


def dial(host: str, port: int, *, timeout_s: float) -> socket.socket:
    """A connected socket with TCP_NODELAY set; OSError when refused, unreachable or out of time.

    paramiko never sets TCP_NODELAY, so the socket is made here.
    """
    family, kind, protocol, _, address = _resolve(host, port)
    deadline = time.monotonic() + timeout_s
    pending: list[socket.socket] = []
    with selectors.DefaultSelector() as selector:
        try:
            while time.monotonic() < deadline:
                attempt = socket.socket(family, kind, protocol)
                attempt.setblocking(False)
                pending.append(attempt)
                _begin(attempt, address)
                selector.register(attempt, selectors.EVENT_WRITE)
                left_s = min(_STAGGER_S, max(deadline - time.monotonic(), 0))
                for key, _ in selector.select(left_s):
                    winner = key.fileobj
                    assert isinstance(winner, socket.socket), "only sockets are registered"
                    _raise_failure(winner)
                    pending.remove(winner)
                    return _configured(winner)
        finally:
            for loser in pending:
                loser.close()
    raise TimeoutError(f"no answer within {timeout_s:.0f} s")


def _resolve(
    host: str, port: int
) -> tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[object, ...]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]


def _begin(attempt: socket.socket, address: tuple[object, ...]) -> None:
    try:
        attempt.connect(address)
    except BlockingIOError:
        return


def _raise_failure(attempt: socket.socket) -> None:
    code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _configured(winner: socket.socket) -> socket.socket:
    winner.setblocking(True)
    winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return winner
