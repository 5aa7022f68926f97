"""Both sides of the keeper's socket prove that they hold its key before a byte is trusted.

server → 32 random bytes; client → 32 random bytes and its proof; server → its proof. A proof is
HMAC-SHA256 over who proves and both nonces, so neither can be replayed nor sent back.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket

from colabdev.agent.wire import PROTOCOL
from colabdev.version import VERSION

KEEPER_VERSION = f"{VERSION}+{PROTOCOL}"
"""What a keeper says that it is. A checkout keeps its version while its agent learns something, and an
older keeper would hand out agents that leave out what they do not know; so the protocol stands in it."""

_NONCE_BYTES = 32
_PROOF_BYTES = 32


class HandshakeFailed(Exception):
    """The other side does not hold the key, or is no keeper at all."""


def prove_as_client(connection: socket.socket, key: bytes) -> None:
    """Take the client's part. Raises HandshakeFailed or OSError."""
    theirs = _receive(connection, _NONCE_BYTES)
    ours = os.urandom(_NONCE_BYTES)
    connection.sendall(ours + _proof(key, b"client", theirs, ours))
    _check(_receive(connection, _PROOF_BYTES), _proof(key, b"keeper", theirs, ours))


def prove_as_keeper(connection: socket.socket, key: bytes) -> None:
    """Take the keeper's part. Raises HandshakeFailed or OSError."""
    ours = os.urandom(_NONCE_BYTES)
    connection.sendall(ours)
    theirs = _receive(connection, _NONCE_BYTES)
    _check(_receive(connection, _PROOF_BYTES), _proof(key, b"client", ours, theirs))
    connection.sendall(_proof(key, b"keeper", ours, theirs))


def _proof(key: bytes, who: bytes, keeper_nonce: bytes, client_nonce: bytes) -> bytes:
    return hmac.new(key, who + keeper_nonce + client_nonce, hashlib.sha256).digest()


def _check(shown: bytes, expected: bytes) -> None:
    if not hmac.compare_digest(shown, expected):
        raise HandshakeFailed("the other side does not hold the key")


def _receive(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            raise HandshakeFailed("the other side hung up")
        received += piece
    return received
