"""paramiko's transport with what it drops: the signal of a process, the reason of a hang-up, and when
something was heard last."""

from __future__ import annotations

import socket
import time
from typing import Any, ClassVar

import paramiko
from paramiko.common import MSG_CHANNEL_REQUEST

from colabdev.adapters.proxy_command import ProxySocket


def _handle_request(channel: Any, message: paramiko.Message) -> None:
    position = message.packet.tell()
    if message.get_text() == "exit-signal":
        message.get_boolean()
        channel.exit_signal = message.get_text()
        channel.status_event.set()
        return
    message.packet.seek(position)
    channel._handle_request(message)


class Transport(paramiko.Transport):
    """Notes the signal that a process died of, and the server's last words."""

    hung_up = ""
    """Why the server ended the connection, when it said so; a cut says nothing."""

    # HACK: paramiko drops "exit-signal" and keeps exit status -1, the same as after a cut. The table
    # is private; the contract suite fails when it changes. Way out: a release that tells signals.
    _channel_handler_table: ClassVar[dict[int, Any]] = {
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
        MSG_CHANNEL_REQUEST: _handle_request,
    }

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        message.get_int()
        self.hung_up = message.get_text()


class HeardSocket:
    """A socket that remembers when bytes last came in, which is what proves a path alive."""

    def __init__(self, inner: socket.socket | ProxySocket) -> None:
        self._inner = inner
        self.heard = time.monotonic()

    def recv(self, count: int) -> bytes:
        data: bytes = self._inner.recv(count)
        if data:
            self.heard = time.monotonic()
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
