"""Carrying bytes between a client's socket and a stream on the runtime."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import BinaryIO

from colabdev.adapters.ssh import SshProcess
from colabdev.agent import wire
from colabdev.errors import ColabdevError

log = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024


def splice(client: socket.socket, reader: BinaryIO, process: SshProcess) -> None:
    """Join a client and a stream, each direction until its own end, as TCP does.

    When the connection to the runtime breaks, the client's socket is closed in mid-stream, which its
    framing notices.
    """

    def send_all() -> None:
        while (output := process.read()) is not None:
            if output.pipe == "stdout":
                client.sendall(output.data)
            else:
                log.warning("agent: %s", output.data.decode("utf-8", "replace").strip())

    _carry(client, process, lambda: _read_some(reader), send_all)


def carry_process(client: socket.socket, reader: BinaryIO, process: SshProcess) -> None:
    """Join a client and a process by frames: `stdin` and `eof` there, `pipe` and `exit` back."""

    def send_all() -> None:
        try:
            while (output := process.read()) is not None:
                client.sendall(wire.encode({"pipe": output.pipe}, output.data))
            status = process.wait()
        except ColabdevError as exc:
            client.sendall(wire.encode({"error": exc.to_json()}))
            raise
        ended = {"code": status.code, "signal": status.signal}
        client.sendall(wire.encode({"exit": ended}))

    _carry(client, process, lambda: _next_stdin(reader, process), send_all)


def hang_up(client: socket.socket) -> None:
    """End both directions of the client's socket, which wakes whoever reads from it."""
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def _carry(
    client: socket.socket,
    process: SshProcess,
    next_piece: Callable[[], bytes | None],
    send_all: Callable[[], None],
) -> None:
    upward = threading.Thread(target=_feed, args=(process, next_piece), daemon=True)
    upward.start()
    try:
        send_all()
        # Only our direction ends: what the client still sends is taken, and not answered by a reset,
        # which could overtake the last bytes that it has not read yet.
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
    except (ColabdevError, OSError) as exc:
        log.info("a stream ended early: %s", exc)
        hang_up(client)
    upward.join()
    process.close()


def _feed(process: SshProcess, next_piece: Callable[[], bytes | None]) -> None:
    """Write what the client sends until it ends its side, which ends stdin."""
    try:
        while (piece := next_piece()) is not None:
            process.write(piece)
    except (ColabdevError, OSError, wire.WireError) as exc:
        log.info("a client's stream ended early: %s", exc)
    process.close_stdin()


def _read_some(reader: BinaryIO) -> bytes | None:
    data: bytes = reader.read1(CHUNK_BYTES)  # type: ignore[attr-defined]
    return data or None


def _next_stdin(reader: BinaryIO, process: SshProcess) -> bytes | None:
    while True:
        frame = wire.read_frame(reader.read)
        if frame is None:
            process.close()  # The client is gone, not merely at the end of its input.
            return None
        header, body = frame
        if header.get("stdin"):
            return body
        if header.get("eof"):
            process.close_stdin()
