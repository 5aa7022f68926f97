"""A client of `/colab/ssh`, and with it a ProxyCommand: `python -m tests.support.colab_ssh URL TOKEN
KEY…` carries stdin and stdout."""

from __future__ import annotations

import os
import sys
import threading

import websocket

TIMEOUT_S = 30
_READ_BYTES = 64 * 1024


def open_ssh(
    url: str, token: str, public_key: str | None, *, token_in_header: bool = False
) -> websocket.WebSocket:
    headers = {} if public_key is None else {"X-Colab-Ssh-Pubkey": public_key}
    address = f"{url}/colab/ssh".replace("http", "ws", 1)
    if token_in_header:
        headers["X-Colab-Runtime-Proxy-Token"] = token
    else:
        address += f"?colab-runtime-proxy-token={token}"
    return websocket.create_connection(address, header=headers, timeout=TIMEOUT_S)


def main(url: str, token: str, public_key: str) -> None:
    socket = open_ssh(url, token, public_key)
    threading.Thread(target=_send_stdin, args=(socket,), daemon=True).start()
    try:
        while data := socket.recv():
            assert isinstance(data, bytes)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except (websocket.WebSocketException, OSError):
        pass


def _send_stdin(socket: websocket.WebSocket) -> None:
    while data := os.read(0, _READ_BYTES):
        socket.send_binary(data)
    socket.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], " ".join(sys.argv[3:]))
