"""The way into a running job: a Unix socket in its directory, served by its supervisor.

Whoever connects sends frames (`wire`): first `{"client": …}`, answered by `{"taken": bytes}`, how much
of that client's input was taken before. Then `{"data": offset}` + body, answered by `{"taken": bytes}`;
`{"eof": offset}`; `{"resize": [columns, rows]}`, answered by `{"resized": [columns, rows]}`. Offsets
count the client's own bytes, so what is sent again after a cut is taken once, and in order.
"""

from __future__ import annotations

import io
import os
import socket
from contextlib import contextmanager, suppress
from typing import Any, Callable, Dict, Iterator, List, Optional

from . import wire
from .jobdir import JobFiles

_QUEUE_BYTES = 256 * 1024
_READ_BYTES = 64 * 1024
_WRITE_BYTES = 64 * 1024
_LONGEST_FRAME_BYTES = 1024 * 1024

Resize = Callable[[List[int]], None]


class Inlet:
    """The supervisor's end; it never blocks.

    `sink` is where input goes, None where the job takes none. A pipe is ours to close; a terminal has
    no end, and whoever types may come and go.
    """

    def __init__(
        self, files: JobFiles, sink: Optional[int], resize: Resize, *, is_pipe: bool
    ) -> None:
        self._files = files
        self._sink = sink
        self._is_pipe = is_pipe
        self._resize = resize
        self._queue = bytearray()
        self._ends = False
        self._taken: Dict[str, int] = {}
        self._clients: Dict[socket.socket, _Client] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        with _inside(files.directory):
            with suppress(FileNotFoundError):
                os.unlink(files.input_name)
            self._listener.bind(files.input_name)
            os.chmod(files.input_name, 0o600)
        self._listener.listen(16)

    def readers(self) -> List[socket.socket]:
        """What to wait for. While the job does not read, nobody is listened to: that holds back the
        one who writes, all the way."""
        if len(self._queue) >= _QUEUE_BYTES:
            return [self._listener]
        return [self._listener, *self._clients]

    def writers(self) -> List[int]:
        """Where there is something to be written."""
        return [self._sink] if self._sink is not None and self._queue else []

    def serve(self, ready: List[Any]) -> None:
        """Go on with each of `readers()` and `writers()` that is ready."""
        if self._listener in ready:
            with suppress(OSError):
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                self._clients[connection] = _Client()
        for connection in [one for one in self._clients if one in ready]:
            try:
                going_on = self._hear(connection)
            except (OSError, wire.WireError, KeyError, TypeError, ValueError):
                going_on = False
            if not going_on:
                del self._clients[connection]
                connection.close()
        self._feed()

    def close(self) -> None:
        """Nobody can come any more, and those who are there hear of the end."""
        with suppress(OSError):
            os.unlink(self._files.input)
        self._listener.close()
        for connection in self._clients:
            connection.close()
        self._clients.clear()

    def _hear(self, connection: socket.socket) -> bool:
        """Take what was sent; False when the client has gone."""
        try:
            data = connection.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        client = self._clients[connection]
        client.buffer += data
        for header, body in client.frames():
            answer = self._take(client, header, body)
            if answer is not None:
                # A few bytes into an empty buffer: who does not take them does not listen.
                connection.sendall(wire.encode(answer))
        return bool(data)

    def _take(
        self, client: _Client, header: Dict[str, Any], body: bytes
    ) -> Optional[Dict[str, Any]]:
        if "client" in header:
            client.name = str(header["client"])
            return {"taken": self._taken.setdefault(client.name, 0)}
        if "resize" in header:
            self._resize(header["resize"])
            return {"resized": header["resize"]}
        taken = self._taken[client.name]
        if "data" in header:
            offset = int(header["data"])
            if offset > taken:
                raise ValueError("input is missing before it")
            if self._sink is not None and not self._ends:
                self._queue += body[taken - offset :]
            self._taken[client.name] = max(taken, offset + len(body))
            return {"taken": self._taken[client.name]}
        if "eof" in header and header["eof"] == taken:
            self._ends = self._is_pipe
        return None

    def _feed(self) -> None:
        """Write what fits; the end comes after the last byte."""
        if self._sink is None:
            return
        try:
            while self._queue:
                count = os.write(self._sink, self._queue[:_WRITE_BYTES])
                del self._queue[:count]
        except BlockingIOError:
            return
        except OSError:
            self._queue.clear()  # Nobody has the other end: the job wants no more.
            self._ends = self._is_pipe
        if self._ends:
            os.close(self._sink)
            self._sink = None


class _Client:
    """Who is connected, and what of its next frame has come."""

    def __init__(self) -> None:
        self.name = ""
        self.buffer = b""

    def frames(self) -> Iterator[wire.Frame]:
        """Those that have come whole."""
        stream = io.BytesIO(self.buffer)
        read = 0
        try:
            while True:
                frame = wire.read_frame(stream.read)
                if frame is None:
                    break
                read = stream.tell()
                yield frame
        except wire.Truncated:
            pass
        finally:
            self.buffer = self.buffer[read:]
        if len(self.buffer) > _LONGEST_FRAME_BYTES:
            raise wire.WireError("a frame that never ends")


def connect(files: JobFiles) -> Optional[socket.socket]:
    """A connection to the job's inlet; None when nobody serves it (any more, or yet)."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _inside(files.directory):
            connection.connect(files.input_name)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


@contextmanager
def _inside(directory: str) -> Iterator[None]:
    """In that directory meanwhile: a socket's whole path may be no longer than 104 or 108 bytes."""
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(directory)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
