"""HTTP servers on loopback, each on a port of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Middleware

from tests.support.colab_server.journal import Journal
from tests.support.colab_server.replies import Broken, Refusal

_SHUTDOWN_TIMEOUT_S = 0.2
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Site:
    url: str
    runner: web.AppRunner

    async def close(self) -> None:
        """Stop listening and break what is open."""
        await self.runner.cleanup()


async def open_site(routes: Iterable[web.RouteDef], journal: Journal | None, place: str) -> Site:
    """Serve `routes` on a free port of 127.0.0.1; with a journal, note what is asked."""
    app = web.Application(middlewares=[_middleware(journal, place)], client_max_size=2**30)
    app.add_routes(routes)
    runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_TIMEOUT_S, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    return Site(f"http://127.0.0.1:{port}", runner)


def _middleware(journal: Journal | None, place: str) -> Middleware:
    @web.middleware
    async def around(request: web.Request, handler: _Handler) -> web.StreamResponse:
        entry = {} if journal is None else journal.note(place, request)
        try:
            response = await handler(request)
        except Refusal as exc:
            response = exc.response()
        except web.HTTPException as exc:
            entry["status"] = exc.status
            raise
        except (Broken, aiohttp.ClientError, ConnectionError):
            # Broken on purpose, or the machine behind it went.
            entry["status"] = 0
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        entry["status"] = response.status
        return response

    return around
