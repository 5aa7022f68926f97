"""Google's host names on loopback, for clients that cannot be told of another address.

An HTTP proxy, for `HTTPS_PROXY`: what goes to a host of Google's comes out at the stand-in, with a
certificate of our own that the client must be told to trust. So the client itself stays as it is.
Every other host is refused: nothing leaves this computer.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.certificates import make_server_context

HOSTS = (
    "colab.research.google.com",
    "oauth2.googleapis.com",
    "accounts.google.com",
    "www.googleapis.com",
)
_READ_BYTES = 64 * 1024
_HEADER_TIMEOUT_S = 10


class GoogleFront:
    """In front of `base_url`, from construction to `stop` or the end of the `with` block."""

    def __init__(self, directory: Path, base_url: str) -> None:
        self.certificate = directory / "google.pem"
        self.refused: list[str] = []
        """Hosts that somebody wanted to reach, and did not."""
        self._target = urlsplit(base_url)
        self._context = make_server_context(self.certificate, HOSTS)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        self._server = starting.result(_HEADER_TIMEOUT_S)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> GoogleFront:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment needs to come here: requests, httplib2 and urllib heed it."""
        return {
            "HTTPS_PROXY": f"http://127.0.0.1:{self.port}",
            "NO_PROXY": "127.0.0.1",
            "REQUESTS_CA_BUNDLE": str(self.certificate),
            "SSL_CERT_FILE": str(self.certificate),
        }

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_HEADER_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            async with asyncio.timeout(_HEADER_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            host = head.split()[1].decode("ascii", "replace").rpartition(":")[0]
            if not head.startswith(b"CONNECT ") or host not in HOSTS:
                self.refused.append(host)
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await writer.drain()
                await writer.start_tls(self._context)
                await self._relay(reader, writer)
        writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection(self._target.hostname, self._target.port)
        try:
            carriers = (_carry(reader, upstream[1]), _carry(upstream[0], writer))
            tasks = [asyncio.create_task(carrier) for carrier in carriers]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            upstream[1].close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_READ_BYTES):
        writer.write(piece)
        await writer.drain()
