"""`/colab/tty`: a shell on the machine, in JSON frames.

The real one is tmux's session 0; this one is a terminal of the Jupyter server, which likewise outlives
its connections. A new connection takes it from the old one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.colab_server.machine import Machine
from tests.support.colab_server.replies import refuse
from tests.support.colab_server.world import World

_TERMINAL = "0"


class Tty:
    def __init__(self, world: World, machine: Machine) -> None:
        self._world = world
        self._machine = machine
        self._current: web.WebSocketResponse | None = None

    async def handle(self, request: web.Request, token_in_query: bool) -> web.StreamResponse:
        await asyncio.sleep(self._world.faults.take("websocket_delay_s") or 0)
        try:
            await self._machine.wait_ready()
        except (TimeoutError, ConnectionError) as exc:
            refuse(502, str(exc))
        ours = web.WebSocketResponse()
        await ours.prepare(request)
        kicked, self._current = self._current, ours
        if kicked is not None:
            await kicked.close()
        connector = aiohttp.UnixConnector(self._machine.socket("jupyter"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            await _open_terminal(session) as terminal,
        ):
            tasks = [
                asyncio.create_task(_to_client(terminal, ours)),
                asyncio.create_task(_to_terminal(ours, terminal)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await ours.close()
        return ours


async def _open_terminal(session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
    """The one terminal, made anew after its shell ended."""
    terminals = "http://machine/api/terminals"
    async with session.get(f"{terminals}/{_TERMINAL}") as answer:
        known = answer.status == 200
    if not known:
        async with session.post(terminals, json={"name": _TERMINAL}) as answer:
            answer.raise_for_status()
    return await session.ws_connect(f"ws://machine/terminals/websocket/{_TERMINAL}")


async def _to_client(
    terminal: aiohttp.ClientWebSocketResponse, ours: web.WebSocketResponse
) -> None:
    async for message in terminal:
        kind, *values = json.loads(message.data)
        if kind == "stdout":
            await ours.send_str(json.dumps({"data": values[0]}))
        elif kind == "disconnect":
            return


async def _to_terminal(
    ours: web.WebSocketResponse, terminal: aiohttp.ClientWebSocketResponse
) -> None:
    async for message in ours:
        with contextlib.suppress(ValueError):
            frame: Any = json.loads(message.data)
            if "data" in frame:
                await terminal.send_str(json.dumps(["stdin", frame["data"]]))
            if "cols" in frame and "rows" in frame:
                await terminal.send_str(json.dumps(["set_size", frame["rows"], frame["cols"]]))
