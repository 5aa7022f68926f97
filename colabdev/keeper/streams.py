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
    """Join a client and a stream until the stream ends; what the client closes is closed there too.

    When the connection to the runtime breaks, the client's socket is closed in mid-stream, which its
    framing notices.
    """
    upward = threading.Thread(target=_feed_raw, args=(reader, process), daemon=True)
    upward.start()
    try:
        while (output := process.read()) is not None:
            if output.pipe == "stdout":
                client.sendall(output.data)
            else:
                log.warning("agent: %s", output.data.decode("utf-8", "replace").strip())
    except (ColabdevError, OSError) as exc:
        log.info("stream ended: %s", exc)
    finally:
        process.close()
        hang_up(client)
        upward.join()


def carry_process(client: socket.socket, reader: BinaryIO, process: SshProcess) -> None:
    """Join a client and a process by frames: `stdin` and `eof` there, `pipe` and `exit` back."""
    upward = threading.Thread(target=_feed_frames, args=(reader, process), daemon=True)
    upward.start()
    try:
        while (output := process.read()) is not None:
            client.sendall(wire.encode({"pipe": output.pipe}, output.data))
        status = process.wait()
        ended = {"code": status.code, "signal": status.signal}
        client.sendall(wire.encode({"exit": ended}))
    except ColabdevError as exc:
        with contextlib.suppress(OSError):
            client.sendall(wire.encode({"error": exc.to_json()}))
    except OSError as exc:
        log.info("client left: %s", exc)
    finally:
        process.close()
        hang_up(client)
        upward.join()


def hang_up(client: socket.socket) -> None:
    """Wake whoever reads from the client's socket."""
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def _feed_raw(reader: BinaryIO, process: SshProcess) -> None:
    _feed(process, lambda: _read_some(reader))


def _feed_frames(reader: BinaryIO, process: SshProcess) -> None:
    _feed(process, lambda: _next_stdin(reader, process))


def _feed(process: SshProcess, next_piece: Callable[[], bytes | None]) -> None:
    """Write what the client sends. A client that ends its side ends stdin; one that is gone lets go
    of the whole stream, which `process.close` in the other direction's thread cannot know."""
    try:
        while (piece := next_piece()) is not None:
            process.write(piece)
    except (ColabdevError, OSError, wire.WireError) as exc:
        log.info("client's stream ended: %s", exc)
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
