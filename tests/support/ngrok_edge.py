"""A stand-in for ngrok's edge: enough of its protocol for the real SDK, 1.4 to 1.7, to log in, open a
TCP endpoint, carry connections, beat, be refused with an ERR_NGROK code, be cut off and come back.

Inside `muxado` streams: Auth 0, Bind 1 and Unbind 2 are a JSON request, answered by JSON and FIN, a
failure as `{"Error": "words\\n\\nERR_NGROK_n"}`; a beat (0xffffffff) is echoed; for each client that
connects we open a Proxy stream, 3: i64 little endian, a JSON header, then its bytes both ways. Nothing
of it is ngrok's own code; what it cannot know of the real one (quotas, addresses) it does not pretend.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import secrets
import ssl
import struct
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.support.certificates import make_server_context
from tests.support.muxado import FIN, SYN, Session, Stream

TOKEN = "2planted" + "0123456789ABCDEFGHi" + "_" + "1234567890abcdefghijk"
"""Looks as a token does."""

AUTH, BIND, UNBIND, PROXY = 0, 1, 2, 3
BEAT = 0xFFFFFFFF
_CHUNK_BYTES = 32768
_CALL_TIMEOUT_S = 10
_LEAVING_S = 0.02

T = TypeVar("T")


def ngrok_error(code: int, words: str = "no") -> str:
    """As ngrok words its failures."""
    return f"{words}\n\nERR_NGROK_{code}"


class NgrokEdge:
    """Listens in a thread of its own, from construction to the end of the `with` block.

    What it does next may be changed at any time: `errors` by AUTH or BIND, `answers_beats`,
    `keeps_address` (a session that comes back gets its address again), `takes_clients` (else they
    are hung up on without a word, as when a quota is used up).
    """

    def __init__(self, directory: Path) -> None:
        self.errors: dict[int, str] = {}
        self.answers_beats = True
        self.keeps_address = True
        self.takes_clients = True
        self.auths: list[dict[str, Any]] = []
        """Each request to log in, as it came."""
        self.binds: list[dict[str, Any]] = []
        self.clients = 0
        """How many connections came to the endpoints."""
        self._last_port = 0
        self._agents: set[_Agent] = set()
        self.ca = directory / "ngrok-ca.pem"
        self._context = make_server_context(self.ca, ("localhost", "127.0.0.1"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self._call(self._listen())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def variables(self) -> dict[str, str]:
        """The environment that leads colabdev here."""
        return {
            "COLABDEV_NGROK_SERVER": f"localhost:{self.port}",
            "COLABDEV_NGROK_CA": str(self.ca),
        }

    @property
    def agents(self) -> int:
        """How many are connected."""
        return len(self._agents)

    def cut_all(self) -> None:
        """Cut every agent off."""
        for agent in list(self._agents):
            self._loop.call_soon_threadsafe(agent.cut)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_TIMEOUT_S)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0, ssl=self._context)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _end(self) -> None:
        self._server.close()
        for agent in list(self._agents):
            agent.cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        agent = _Agent(self, reader, writer)
        self._agents.add(agent)
        with contextlib.suppress(asyncio.CancelledError):
            await agent.run()
        self._agents.discard(agent)

    def next_port(self, wanted: str) -> int:
        """The port of an endpoint that asks for the address `wanted`."""
        if ":" in wanted and self.keeps_address:
            return int(wanted.rpartition(":")[2])
        return self._last_port if self.keeps_address else 0

    def bound(self, port: int) -> None:
        """An endpoint has that port."""
        self._last_port = port


class _Agent:
    """One session."""

    def __init__(
        self, edge: NgrokEdge, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._edge = edge
        self._session = Session(reader, writer, self._serve)
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.StreamWriter] = set()
        self._bind_id = ""

    async def run(self) -> None:
        try:
            await self._session.run()
        finally:
            for server in self._servers:
                server.close()
            for client in list(self._clients):
                client.transport.abort()

    def cut(self) -> None:
        self._session.abort()

    async def _serve(self, stream: Stream) -> None:
        kind = struct.unpack(">I", await stream.read_exactly(4))[0]
        if kind == BEAT:
            while data := await stream.read_some():
                if self._edge.answers_beats:
                    await stream.write(data)
            return
        request = await _read_json(stream)
        await stream.write(json.dumps(await self._answer(kind, request)).encode(), FIN)

    async def _answer(self, kind: int, request: dict[str, Any]) -> dict[str, Any]:
        if kind == AUTH:
            self._edge.auths.append(request)
        if kind == BIND:
            self._edge.binds.append(request)
        if kind in self._edge.errors:
            return {"Error": self._edge.errors[kind]}
        if kind == AUTH:
            more = {
                "Version": "stand-in",
                "Region": "lo",
                "Cookie": "Y29va2ll",
                "AccountName": "test",
                "SessionDuration": 0,
                "PlanName": "Free",
                "Banner": "",
            }
            client = request["ClientId"] or secrets.token_hex(8)
            return {"Version": "3", "ClientId": client, "Extra": more}
        if kind == BIND:
            return await self._bind(request)
        return {"Error": "" if kind == UNBIND else ngrok_error(109, "unsupported")}

    async def _bind(self, request: dict[str, Any]) -> dict[str, Any]:
        self._bind_id = request["Id"] or secrets.token_hex(8)
        port = self._edge.next_port(request["Opts"].get("Addr") or "")
        server = await self._listen(port)
        self._servers.append(server)
        port = server.sockets[0].getsockname()[1]
        self._edge.bound(port)
        return {
            "Id": self._bind_id,
            "URL": f"tcp://127.0.0.1:{port}",
            "Proto": request["Proto"],
            "Opts": {**request["Opts"], "Addr": f"127.0.0.1:{port}"},
            "Extra": {"Token": "dG9r"},
            "Error": "",
        }

    async def _listen(self, port: int) -> asyncio.Server:
        """On that port, which the session before may be about to leave."""
        while True:
            try:
                return await asyncio.start_server(self._take_client, "127.0.0.1", port)
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE or not port:
                    raise
                await asyncio.sleep(_LEAVING_S)

    async def _take_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._edge.clients += 1
        if not self._edge.takes_clients:
            writer.transport.abort()
            return
        self._clients.add(writer)
        header = {
            "Id": self._bind_id,
            "ClientAddr": "{}:{}".format(*writer.get_extra_info("peername")[:2]),
            "Proto": "tcp",
            "EdgeType": "0",
            "PassthroughTLS": False,
        }
        text = json.dumps(header).encode()
        stream = self._session.open()
        await stream.write(struct.pack(">I", PROXY) + struct.pack("<q", len(text)) + text, SYN)
        sending = asyncio.ensure_future(_send(reader, stream))
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                while data := await stream.read_some():
                    writer.write(data)
                    await writer.drain()
        finally:
            sending.cancel()
            self._clients.discard(writer)
            writer.close()


async def _send(reader: asyncio.StreamReader, stream: Stream) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(_CHUNK_BYTES):
            await stream.write(data)
        await stream.write(b"", FIN)


async def _read_json(stream: Stream) -> dict[str, Any]:
    text = b""
    while True:
        data = await stream.read_some()
        if not data:
            raise EOFError
        text += data
        with contextlib.suppress(ValueError):
            request: dict[str, Any] = json.loads(text)
            return request
