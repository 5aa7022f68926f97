"""The runtime proxy: one HTTP server for each runtime, in front of its Jupyter server.

`/colab/ssh` and `/colab/tty` are `SshBridge` and `Tty`; `/api/colab/*` is answered here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from typing import Any, Protocol

import aiohttp
from aiohttp import web
from yarl import URL

from tests.support.colab_server.clock import Clock
from tests.support.colab_server.hardware import Accelerator
from tests.support.colab_server.machine import Machine
from tests.support.colab_server.replies import break_connection, refuse, xssi_json
from tests.support.colab_server.world import World

TOKEN_HEADER = "X-Colab-Runtime-Proxy-Token"
TOKEN_QUERY = "colab-runtime-proxy-token"

_KERNEL_CHANNELS = re.compile(r"/api/kernels/[^/]+/channels")
_OWN_HEADERS = {"connection", "host", "keep-alive", "transfer-encoding", "upgrade", "origin"}
_NOT_PASSED_ON = {*_OWN_HEADERS, "content-length", TOKEN_HEADER.lower()}
_UPSTREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10)
_MIB = 2**20


class ProxyTokens:
    """The tokens of one runtime; each is good until it expires, however many follow it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._expires: dict[str, float] = {}

    def mint(self) -> tuple[str, int]:
        """A new token and its life in seconds."""
        life_s = self._world.facts.proxy_token_life_s
        token = ".".join(("eyJhbGciOiJFUzI1NiJ9", secrets.token_urlsafe(32), "stand-in"))
        self._expires[token] = self._world.clock.now() + life_s
        return token, int(life_s)

    def is_good(self, token: str | None) -> bool:
        return self._world.clock.now() < self._expires.get(token or "", 0)

    def expire_all(self) -> None:
        self._expires.clear()


class KernelActivity:
    """When somebody last held or opened a kernel websocket: what keeps a runtime from being taken."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.now()
        self._transports: set[asyncio.BaseTransport] = set()

    @property
    def silent_s(self) -> float:
        return 0.0 if self._transports else self._clock.now() - self._last

    @property
    def open(self) -> int:
        return len(self._transports)

    def opened(self, transport: asyncio.BaseTransport) -> None:
        self._transports.add(transport)

    def closed(self, transport: asyncio.BaseTransport) -> None:
        self._transports.discard(transport)
        self._last = self._clock.now()

    def drop(self) -> int:
        """Break every kernel websocket, as a network does. Returns how many there were."""
        dropped = list(self._transports)
        for transport in dropped:
            assert isinstance(transport, asyncio.WriteTransport)
            transport.abort()
        return len(dropped)


class Bridge(Protocol):
    async def handle(self, request: web.Request, token_in_query: bool) -> web.StreamResponse: ...


class RuntimeProxy:
    def __init__(
        self,
        world: World,
        machine: Machine,
        accelerator: Accelerator,
        bridges: dict[str, Bridge],
    ) -> None:
        self._world = world
        self._machine = machine
        self._accelerator = accelerator
        self._bridges = bridges
        self._session: aiohttp.ClientSession | None = None
        self.ended = False
        """Whether the runtime is gone. Its address still answers, with 404."""
        self.tokens = ProxyTokens(world)
        self.kernels = KernelActivity(world.clock)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Everything that comes to the runtime's address."""
        if self.ended:
            refuse(404, "")
        faults = self._world.faults
        await asyncio.sleep(faults.take("proxy_delay_s") or 0)
        if (status := faults.take("proxy_status")) is not None:
            refuse(status, "broken on purpose")
        in_query = request.query.get(TOKEN_QUERY)
        if not self.tokens.is_good(request.headers.get(TOKEN_HEADER) or in_query):
            refuse(self._world.facts.expired_proxy_token_status, "")
        if (bridge := self._bridges.get(request.path)) is not None:
            return await bridge.handle(request, in_query is not None)
        if request.path.startswith("/api/colab/"):
            return self._own(request.path.removeprefix("/api/colab/"))
        return await self.forward(request, request.rel_url)

    async def forward(self, request: web.Request, target: URL) -> web.StreamResponse:
        """Ask the machine, which may still be starting: then the answer takes longer."""
        try:
            await self._machine.wait_ready()
        except (TimeoutError, ConnectionError) as exc:
            refuse(502, str(exc))
        url = URL(f"http://machine{_without_token(target)}", encoded=True)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._forward_websocket(request, url)
        return await self._forward_http(request, url)

    async def close(self) -> None:
        self.ended = True
        self.kernels.drop()
        if self._session is not None:
            await self._session.close()

    def _upstream(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(self._machine.socket("jupyter"), limit=0),
                auto_decompress=False,
                timeout=_UPSTREAM_TIMEOUT,
            )
        return self._session

    async def _forward_http(self, request: web.Request, url: URL) -> web.StreamResponse:
        if (request.content_length or 0) > self._world.facts.max_put_bytes:
            break_connection(request)
        headers = _forwarded(request)
        body: bytes | aiohttp.StreamReader | None = request.content
        if not request.can_read_body:
            body = None
        elif request.method == "POST" and request.path == "/api/sessions":
            body = _without_empty_kernel_id(await request.read())
        sent = self._upstream().request(
            request.method, url, data=body, headers=headers, allow_redirects=False
        )
        async with sent as answer:
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _OWN_HEADERS:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    async def _forward_websocket(self, request: web.Request, url: URL) -> web.StreamResponse:
        await asyncio.sleep(self._world.faults.take("websocket_delay_s") or 0)
        asked = request.headers.get("Sec-WebSocket-Protocol", "")
        protocols = tuple(name.strip() for name in asked.split(",") if name.strip())
        try:
            upstream = await self._upstream().ws_connect(url, protocols=protocols, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as exc:
            refuse(exc.status, exc.message)
        async with upstream:
            chosen = (upstream.protocol,) if upstream.protocol else ()
            ours = web.WebSocketResponse(protocols=chosen, max_msg_size=0)
            await ours.prepare(request)
            is_kernel = _KERNEL_CHANNELS.fullmatch(request.path) is not None
            transport = request.transport
            if is_kernel and transport is not None:
                self._world.journal.count("kernel websocket opened")
                self.kernels.opened(transport)
            try:
                await carry_both_ways(ours, upstream)
            finally:
                if is_kernel and transport is not None:
                    self.kernels.closed(transport)
        return ours

    def _own(self, name: str) -> web.Response:
        answers: dict[str, Any] = {
            "resources": self._resources,
            "drive": lambda: {"dfs": []},
            "build-info": lambda: {"release_tag": "release-colab-stand-in"},
        }
        if name not in answers:
            refuse(404, "no such thing")
        return xssi_json(answers[name](), prefix=not self._world.faults.take("no_xssi"))

    def _resources(self) -> dict[str, Any]:
        resources: dict[str, Any] = {
            "memory": {"totalBytes": 13_600_000_000, "freeBytes": 12_000_000_000},
            "disks": [
                {
                    "filesystem": {
                        "label": "kernel",
                        "totalBytes": 115_658_190_848,
                        "usedBytes": 40_000_000_000,
                    }
                }
            ],
        }
        if self._accelerator.variant == "GPU":
            resources["gpus"] = [
                {
                    "name": self._accelerator.device,
                    "memoryUsedBytes": 0,
                    "memoryTotalBytes": self._accelerator.memory_mib * _MIB,
                    "gpuUtilization": 0,
                    "memoryUtilization": 0,
                    "everUsed": False,
                }
            ]
        return resources


AnySocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def carry_both_ways(one: AnySocket, other: AnySocket) -> None:
    """Until either end closes; then both are closed."""
    tasks = [asyncio.create_task(_carry(one, other)), asyncio.create_task(_carry(other, one))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await one.close()
        await other.close()


async def _carry(source: AnySocket, target: AnySocket) -> None:
    async for message in source:
        if message.type == aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type == aiohttp.WSMsgType.BINARY:
            await target.send_bytes(message.data)


def _forwarded(request: web.Request) -> list[tuple[str, str]]:
    """The client's headers without those of its connection to us."""
    return [
        (name, value)
        for name, value in request.headers.items()
        if name.lower() not in _NOT_PASSED_ON
    ]


def _without_empty_kernel_id(body: bytes) -> bytes:
    """Google's clients ask for a new kernel with an empty id, which Jupyter's server would use."""
    with contextlib.suppress(ValueError):
        document = json.loads(body)
        if isinstance(document, dict) and isinstance(document.get("kernel"), dict):
            kernel = document["kernel"]
            kernel["id"] = kernel.get("id") or None
            return json.dumps(document).encode()
    return body


def _without_token(target: URL) -> str:
    """Path and query as they came, without the token."""
    query = "&".join(
        part for part in target.raw_query_string.split("&") if not part.startswith(TOKEN_QUERY)
    )
    return f"{target.raw_path}?{query}" if query else target.raw_path
