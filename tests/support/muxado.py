"""The server's half of muxado, which ngrok's agents speak inside TLS: streams in frames.

A frame is u32 (length << 8 | type << 4 | flags) and u32 stream id, big endian, then the body. A stream
begins with u32 of what it is for; each direction may send as many bytes as the other granted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Awaitable, Callable

FIN, SYN = 1, 2
RST, DATA, GRANT, GO_AWAY = 0, 1, 2, 3
WINDOW_BYTES = 0x40000
_CHUNK_BYTES = 32768
_STREAM_MASK = 0x7FFFFFFF


class Stream:
    """Bytes both ways inside a session."""

    def __init__(self, session: Session, number: int) -> None:
        self._session = session
        self._number = number
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._buffer = b""
        self._ended = False
        self._window = WINDOW_BYTES
        self._granted = asyncio.Event()

    async def read_some(self) -> bytes:
        """What has arrived; b"" at the end."""
        if not self._buffer and not self._ended:
            await self._fill()
        data, self._buffer = self._buffer, b""
        return data

    async def read_exactly(self, count: int) -> bytes:
        """That many bytes; EOFError when they do not come."""
        while len(self._buffer) < count:
            if self._ended:
                raise EOFError
            await self._fill()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    async def write(self, data: bytes, flags: int = 0) -> None:
        """All of it, as the other side grants; FIN goes with the last frame, SYN with the first."""
        while True:
            while self._window <= 0:
                self._granted.clear()
                await self._granted.wait()
            chunk = data[: min(self._window, _CHUNK_BYTES)]
            self._window -= len(chunk)
            data = data[len(chunk) :]
            last = flags if not data else flags & ~FIN
            await self._session.send(DATA, last, self._number, chunk)
            flags &= ~SYN
            if not data:
                return

    def take(self, data: bytes | None) -> None:
        """Something arrived, or the end."""
        self._arrived.put_nowait(data)

    def grant(self, count: int) -> None:
        """So much more may be sent."""
        self._window += count
        self._granted.set()

    async def _fill(self) -> None:
        data = await self._arrived.get()
        if data is None:
            self._ended = True
            return
        await self._session.send(GRANT, 0, self._number, struct.pack(">I", len(data)))
        self._buffer += data


class Session:
    """One agent's connection; `serve` is called with each stream that the agent opens."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        serve: Callable[[Stream], Awaitable[None]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._serve = serve
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Future[None]] = set()
        self._next = 2
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Until the connection ends."""
        broken = (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)
        try:
            with contextlib.suppress(*broken):
                while await self._take_frame():
                    pass
        finally:
            for task in self._tasks:
                task.cancel()
            self._writer.close()

    def open(self) -> Stream:
        """A stream of ours; its first write must carry SYN."""
        number, self._next = self._next, self._next + 2
        stream = self._streams[number] = Stream(self, number)
        return stream

    async def send(self, kind: int, flags: int, number: int, body: bytes = b"") -> None:
        """One frame."""
        async with self._sending:
            self._writer.write(
                struct.pack(">II", len(body) << 8 | kind << 4 | flags, number) + body
            )
            await self._writer.drain()

    def abort(self) -> None:
        """Cut the connection, without a word."""
        self._writer.transport.abort()

    async def _take_frame(self) -> bool:
        word, number = struct.unpack(">II", await self._reader.readexactly(8))
        length, kind, flags = word >> 8, (word >> 4) & 15, word & 15
        number &= _STREAM_MASK
        body = await self._reader.readexactly(length) if length else b""
        stream = self._streams.get(number)
        if kind == DATA:
            if stream is None and flags & SYN:
                stream = self._streams[number] = Stream(self, number)
                task = asyncio.ensure_future(self._serve_one(stream))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if stream is not None and body:
                stream.take(body)
            if stream is not None and flags & FIN:
                stream.take(None)
        elif kind == GRANT and stream is not None:
            stream.grant(int.from_bytes(body) & _STREAM_MASK)
        elif kind == RST and stream is not None:
            self._streams.pop(number).take(None)
        return bool(kind != GO_AWAY)

    async def _serve_one(self, stream: Stream) -> None:
        with contextlib.suppress(EOFError, ConnectionError, ssl.SSLError):
            await self._serve(stream)
