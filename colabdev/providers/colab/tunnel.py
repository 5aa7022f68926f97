"""Colab's own SSH: the bytes of one connection in the frames of a websocket."""

from __future__ import annotations

import contextlib
import socket
import threading

from colabdev.errors import ColabdevError, RuntimeUnreachable, SshRefused, runtime_lost
from colabdev.models import ColabTunnel
from colabdev.providers.colab.client import Assignment, ColabClient
from colabdev.providers.colab.kernel import proxy_headers
from colabdev.providers.colab.websockets import Closed, UpgradeRefused, WebSocket, open_websocket
from colabdev.providers.colab.wire import PROXY_TOKEN_QUERY, SSH_KEY_HEADER

_CHUNK_BYTES = 64 * 1024
_STATUS_HINT = "colabdev status says how it stands"


def open_tunnel(client: ColabClient, tunnel: ColabTunnel, public_key: str) -> socket.socket:
    """A socket that leads to the runtime's SSH server; it lets the owner of that key in. The token is
    new each time, because one that has expired looks as a runtime that is gone does."""
    assignment = client.find(tunnel.endpoint)
    if assignment is None:
        raise runtime_lost(tunnel.endpoint)
    url = f"{assignment.url}/colab/ssh?{PROXY_TOKEN_QUERY}={assignment.token}"
    try:
        opened = open_websocket(
            url, {**proxy_headers(assignment), SSH_KEY_HEADER: f"{public_key} colabdev"}
        )
    except UpgradeRefused as exc:
        raise _refusal(exc, assignment) from exc
    return _as_socket(opened)


def _refusal(exc: UpgradeRefused, assignment: Assignment) -> ColabdevError:
    where = assignment.endpoint
    if exc.status == 429:
        return RuntimeUnreachable(
            f"another SSH connection to {where} is open, and Colab admits one",
            hint="end the other one; after a cut its place may stay taken for a while",
        )
    if exc.status == 404:
        # The token is new, so it is not that.
        return SshRefused(
            f"the runtime {where} has no SSH: it was made without",
            hint="colabdev down gives it back; colabdev connect then asks for a new one",
        )
    if exc.status == 502:
        return RuntimeUnreachable(
            f"the SSH server of {where} does not answer", hint="it may be starting; " + _STATUS_HINT
        )
    cause = f" ({exc.body})" if exc.body else ""
    refusal = SshRefused if exc.status in (400, 403) else RuntimeUnreachable
    return refusal(f"Colab refuses SSH to {where} with {exc.status}{cause}", hint=_STATUS_HINT)


def _as_socket(websocket: WebSocket) -> socket.socket:
    """A socket whose other end carries to and from the websocket, until either ends."""
    ours, theirs = socket.socketpair()
    for carry in (_send_all, _receive_all):
        threading.Thread(target=carry, args=(theirs, websocket), daemon=True).start()
    return ours


def _send_all(source: socket.socket, websocket: WebSocket) -> None:
    with contextlib.suppress(Closed, OSError):
        while data := source.recv(_CHUNK_BYTES):
            websocket.send(data)
    # A close frame frees the place at once; what just breaks may keep it.
    websocket.close()


def _receive_all(target: socket.socket, websocket: WebSocket) -> None:
    with contextlib.suppress(Closed, OSError):
        for data in websocket:
            target.sendall(data.encode() if isinstance(data, str) else data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
    target.close()
