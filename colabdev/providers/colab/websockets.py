"""Websockets to a runtime's proxy. The only module that knows the library for them."""

from __future__ import annotations

import logging

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from colabdev.errors import RuntimeUnreachable

OPEN_TIMEOUT_S = 40.0
"""Opening one was seen to take longer than ten seconds."""
PING_INTERVAL_S = 20.0

Closed = ConnectionClosed
WebSocket = ClientConnection


class UpgradeRefused(Exception):
    """The server answered with another status than 101."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


def open_websocket(url: str, headers: dict[str, str]) -> WebSocket:
    """An open websocket at an address that begins with http; `UpgradeRefused` when the server says no,
    `RuntimeUnreachable` when it says nothing."""
    try:
        opened = connect(
            url.replace("http", "ws", 1),
            additional_headers=headers,
            compression=None,
            max_size=None,
            open_timeout=OPEN_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            logger=_quiet_logger(),
            legacy=True,  # What comes is the connection, to be closed by whoever has it.
        )
        assert isinstance(opened, ClientConnection)
        return opened
    except InvalidStatus as exc:
        body = bytes(exc.response.body or b"").decode("utf-8", "replace").strip()
        raise UpgradeRefused(exc.response.status_code, body[:200]) from None
    except (OSError, InvalidHandshake) as exc:
        # Its text may have the address, and with that a token.
        raise RuntimeUnreachable(
            f"cannot open a websocket to the runtime: {type(exc).__name__}",
            hint="colabdev status says how it stands",
        ) from None


def _quiet_logger() -> logging.Logger:
    """Never tells the headers, which it would with --verbose: a token is among them."""
    logger = logging.getLogger(f"{__name__}.library")
    logger.setLevel(logging.WARNING)
    return logger
