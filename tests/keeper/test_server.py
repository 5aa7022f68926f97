"""The keeper's door, without a runtime behind it."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import pytest

from colabdev.adapters.broker import KeeperSocket
from colabdev.adapters.handshake import KEEPER_VERSION
from colabdev.agent import wire
from colabdev.keeper.server import KeeperServer, Request
from colabdev.models import KeeperAddress

KEY = os.urandom(32)


class Leaving(KeeperServer):
    """Leaves its clients in mid-stream, with their reader in somebody's hands."""

    def __init__(self) -> None:
        nothing: Any = None
        super().__init__(KEY, nothing, nothing)
        self.held: list[BinaryIO] = []
        """As the frames of an exception hold it that somebody keeps."""
        self.may_leave = threading.Event()

    def _answer(self, client: socket.socket, reader: BinaryIO, request: Request) -> None:
        self.held.append(reader)
        self.may_leave.wait(10)


def test_client_that_sends_more_than_is_read_is_hung_up_on() -> None:
    server = Leaving()
    serving = threading.Thread(target=server.run, args=(lambda: True,))
    serving.start()
    client = KeeperSocket(KeeperAddress(os.getpid(), server.port, KEY.hex(), KEEPER_VERSION))
    client.set_timeout(10)
    client.send(wire.encode({"op": "agent"}))
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(client.send, bytes(1 << 24))
        server.may_leave.set()
        with pytest.raises(ConnectionError):  # Not TimeoutError.
            sending.result()
    client.close()
    server.stop()
    serving.join()
    assert server.held
