"""`/colab/ssh`: the bytes of one SSH connection in the frames of a websocket, to a real sshd."""

from __future__ import annotations

import asyncio
import base64
import binascii

import aiohttp
from aiohttp import web

from tests.support.colab_server.machine import Machine
from tests.support.colab_server.replies import refuse
from tests.support.colab_server.world import World

KEY_HEADER = "X-Colab-Ssh-Pubkey"
KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
)
_READ_BYTES = 64 * 1024


class SshBridge:
    def __init__(self, world: World, machine: Machine, *, enabled: bool) -> None:
        self._world = world
        self._machine = machine
        self._enabled = enabled
        self._connected = False
        self._transport: asyncio.Transport | None = None
        self._free_at = 0.0

    @property
    def busy(self) -> bool:
        return self._connected or self._world.clock.now() < self._free_at

    def forget_broken(self) -> None:
        """Give the slot free that a broken connection has."""
        self._free_at = 0.0

    def drop(self) -> int:
        """Break the connection, as a network does. Returns how many there were."""
        if self._transport is None or self._transport.is_closing():
            return 0
        self._transport.abort()
        return 1

    async def handle(self, request: web.Request, token_in_query: bool) -> web.StreamResponse:
        faults = self._world.faults
        if not token_in_query and not self._world.facts.ssh_token_in_header:
            refuse(401, "")
        if not self._enabled:
            refuse(404, "")
        if (status := faults.take("ssh_status")) is not None:
            refuse(status, "broken on purpose")
        key = check_key(request.headers.get(KEY_HEADER))
        if self.busy or faults.take("ssh_busy"):
            self._world.journal.count("ssh refused as busy")
            refuse(429, "another SSH session is active")
        # From here on until we wait the slot is ours.
        self._connected = True
        try:
            return await self._serve(request, key)
        finally:
            self._connected = False

    async def _serve(self, request: web.Request, key: str) -> web.StreamResponse:
        await asyncio.sleep(self._world.faults.take("websocket_delay_s") or 0)
        self._machine.authorize(key)
        try:
            await self._machine.wait_ready()
            reader, writer = await asyncio.open_unix_connection(self._machine.socket("ssh"))
        except OSError as exc:
            refuse(502, f"sshd is unreachable: {exc}")
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        self._transport = request.transport
        self._world.journal.count("ssh opened")
        down = asyncio.create_task(_to_client(reader, socket))
        up = asyncio.create_task(_to_sshd(socket, writer))
        try:
            await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (down, up):
                task.cancel()
            await asyncio.gather(down, up, return_exceptions=True)
            writer.close()
            if socket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
                self._free_at = self._world.clock.now() + self._world.facts.ssh_slot_lingers_s
            await socket.close()
        return socket


def check_key(line: str | None) -> str:
    """The one public key that `line` is; otherwise the request ends with 400 and the reason."""
    if not line or not line.strip():
        refuse(400, "missing pubkey")
    kind, _, rest = line.strip().partition(" ")
    blob = rest.split(" ")[0]
    if kind not in KEY_TYPES:
        refuse(400, f"unsupported key type: {kind}")
    try:
        decoded = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        refuse(400, "malformed key")
    named = len(kind).to_bytes(4, "big") + kind.encode("ascii")
    if not decoded.startswith(named) or "\n" in line:
        refuse(400, "malformed key")
    return line.strip()


async def _to_client(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    while piece := await reader.read(_READ_BYTES):
        await socket.send_bytes(piece)


async def _to_sshd(socket: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    async for message in socket:
        if message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
            data = message.data
            writer.write(data if isinstance(data, bytes) else data.encode("utf-8"))
            await writer.drain()
