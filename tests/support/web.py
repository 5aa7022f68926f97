"""Small web servers on loopback, and ways to them."""

from __future__ import annotations

import functools
import http.server
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def web_server(directory: Path) -> Iterator[int]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def through_socks(proxy: int, port: int, request: bytes) -> bytes:
    """What 127.0.0.1:port on the far side answers (SOCKS5); nothing while the proxy is not there."""
    try:
        connection = socket.create_connection(("127.0.0.1", proxy), timeout=10)
    except ConnectionRefusedError:
        return b""
    with connection, connection.makefile("rb") as answers:
        connection.sendall(b"\x05\x01\x00")
        assert answers.read(2) == b"\x05\x00"
        connection.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + struct.pack(">H", port))
        assert answers.read(10)[:2] == b"\x05\x00"
        connection.sendall(request)
        return answers.read()
