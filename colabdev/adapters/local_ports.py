"""Ports of this computer that lead to a runtime."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import sys
import threading
from collections.abc import Callable

from colabdev.errors import ColabdevError
from colabdev.ports import ByteStream

log = logging.getLogger(__name__)

_CHUNK_BYTES = 64 * 1024
_TRIED_PORTS = 100
_REST_S = 0.5
_FIRST_FREE_TO_ALL = 1024
# Windows says the second of a port that somebody has for themselves.
_TAKEN = frozenset({errno.EADDRINUSE, errno.EACCES})


class LocalPort:
    """`ports.LocalPort`: a port of 127.0.0.1."""

    def __init__(self, wanted: int) -> None:
        self._closed = threading.Event()
        self._listener = _listen(wanted)
        self.port: int = self._listener.getsockname()[1]

    def serve(
        self, open_stream: Callable[[], ByteStream], failed: Callable[[ColabdevError], None]
    ) -> None:
        threading.Thread(target=self._accept, args=(open_stream, failed), daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        # Only a shutdown surely wakes who waits in accept; where it cannot be had, closing does.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(
        self, open_stream: Callable[[], ByteStream], failed: Callable[[ColabdevError], None]
    ) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError as exc:
                # Too many files open, or a client that left in the queue: the others go on.
                if self._closed.wait(_REST_S):
                    return
                log.info("cannot take a client: %s", exc)
                continue
            threading.Thread(target=_join, args=(client, open_stream, failed), daemon=True).start()


def _listen(wanted: int) -> socket.socket:
    """A listener at the wanted port, or at the next free one behind it."""
    for port in range(wanted, min(wanted + _TRIED_PORTS, 65536)):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # Windows' SO_REUSEADDR would share the port with whoever asks for it after us.
            if sys.platform == "win32":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
        except OSError as exc:
            listener.close()
            if exc.errno not in _TAKEN:
                raise _cannot_listen(port, exc) from exc
            if 0 < port < _FIRST_FREE_TO_ALL and exc.errno == errno.EACCES:
                raise _cannot_listen(port, exc) from exc
        else:
            return listener
    raise ColabdevError(
        f"cannot listen on port {wanted} of this computer or on one of the next {_TRIED_PORTS}: "
        "all are taken",
        hint="put another number before it: colabdev forward LOCAL:PORT",
    )


def _cannot_listen(port: int, exc: OSError) -> ColabdevError:
    return ColabdevError(
        f"cannot listen on port {port} of this computer: {exc.strerror}",
        hint=f"colabdev forward {_FIRST_FREE_TO_ALL + port}:{port}",
    )


def _join(
    client: socket.socket,
    open_stream: Callable[[], ByteStream],
    failed: Callable[[ColabdevError], None],
) -> None:
    """Join one client with a stream of its own, each direction until its own end."""
    with client:
        try:
            stream = open_stream()
        except ColabdevError as exc:
            failed(exc)
            return
        with contextlib.suppress(
            OSError
        ):  # Either side may go at any time; then so does the other.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        upward = threading.Thread(target=_send_up, args=(client, stream), daemon=True)
        upward.start()
        try:
            while data := stream.read_some(_CHUNK_BYTES):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError as exc:
            log.debug("a forwarded connection ended early: %s", exc)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        upward.join()
        stream.close()


def _send_up(client: socket.socket, stream: ByteStream) -> None:
    try:
        while data := client.recv(_CHUNK_BYTES):
            stream.send(data)
        stream.end_writing()
    except OSError as exc:
        log.debug("a forwarded connection ended early: %s", exc)
        stream.close()  # Which wakes who reads from it.
