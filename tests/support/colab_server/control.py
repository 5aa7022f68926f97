"""The server of `control_url`: what a test may do to the stand-in, and ask of it.

Every request and answer is JSON.

GET /             how things stand: facts, faults, counters, runtimes, why the others ended
GET /requests     what clients sent
GET /drive        what is on the Drive of `?email=`
POST /faults      {name, value, times?}; a value of null takes it back
POST /facts       {name: value}
POST /clock       {advance_s}
POST /accounts    {email?, …} changes an account, or makes it
POST /tokens      {email?, client_id?, scopes?}: an access and a refresh token
POST /reset       {keep_runtimes?}; everything as it was at the start
POST /do/ACTION   {endpoint}, with an action of:

reclaim           the runtime goes, as when Colab takes it
kill_machine      its machine dies, and the backend has not noticed yet
crash_kernel      its kernels die by SIGKILL
drop_websockets   its kernel websockets break
drop_ssh          its SSH connection breaks
expire_tokens     its proxy tokens expire
lose_drive        its Drive mount vanishes (with `mountpoint`)
"""

from __future__ import annotations

import dataclasses
from typing import Any

from aiohttp import web

from tests.support.colab_server.accounts import DEFAULT_CLIENT, DEFAULT_EMAIL
from tests.support.colab_server.drive_api import describe
from tests.support.colab_server.faults import NAMES
from tests.support.colab_server.replies import refuse
from tests.support.colab_server.runtimes import Runtime, Runtimes
from tests.support.colab_server.world import World

_MOUNTPOINT = "/content/drive"


class Control:
    def __init__(self, world: World, runtimes: Runtimes) -> None:
        self._world = world
        self._runtimes = runtimes
        self._actions = {
            "reclaim": self._reclaim,
            "kill_machine": self._kill_machine,
            "crash_kernel": self._crash_kernel,
            "drop_websockets": self._drop_websockets,
            "drop_ssh": self._drop_ssh,
            "expire_tokens": self._expire_tokens,
            "lose_drive": self._lose_drive,
        }

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.describe),
            web.get("/requests", self.requests),
            web.get("/drive", self.drive),
            web.post("/faults", self.fault),
            web.post("/facts", self.facts),
            web.post("/clock", self.clock),
            web.post("/accounts", self.account),
            web.post("/tokens", self.tokens),
            web.post("/reset", self.reset),
            web.post("/do/{action}", self.act),
        ]

    async def describe(self, request: web.Request) -> web.Response:
        world = self._world
        return web.json_response(
            {
                "now": world.clock.now(),
                "facts": dataclasses.asdict(world.facts),
                "faults": world.faults.describe(),
                "struck": world.faults.struck,
                "counters": dict(world.journal.counters),
                "accounts": [dataclasses.asdict(one) for one in world.accounts.by_email.values()],
                "runtimes": [_describe(one) for one in self._runtimes.all()],
                "ended": self._runtimes.ended,
            }
        )

    async def requests(self, request: web.Request) -> web.Response:
        return web.json_response(list(self._world.journal.requests))

    async def drive(self, request: web.Request) -> web.Response:
        cloud = self._world.clouds.of(request.query.get("email", DEFAULT_EMAIL))
        return web.json_response([describe(file) for file in cloud.files.values()])

    async def fault(self, request: web.Request) -> web.Response:
        body = await request.json()
        try:
            self._world.faults.set(body["name"], body["value"], body.get("times"))
        except KeyError as exc:
            refuse(400, f"no fault {exc}; there are {', '.join(NAMES)}")
        return web.json_response({})

    async def facts(self, request: web.Request) -> web.Response:
        try:
            self._world.facts.change(await request.json())
        except KeyError as exc:
            refuse(400, f"no fact {exc}")
        return web.json_response({})

    async def clock(self, request: web.Request) -> web.Response:
        self._world.clock.advance(float((await request.json())["advance_s"]))
        return web.json_response({"now": self._world.clock.now()})

    async def account(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        account = self._world.accounts.add(body.pop("email", DEFAULT_EMAIL))
        for name, value in body.items():
            if not hasattr(account, name):
                refuse(400, f"an account has no {name}")
            setattr(account, name, value)
        return web.json_response(dataclasses.asdict(account))

    async def tokens(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        email = body.get("email", DEFAULT_EMAIL)
        client_id = body.get("client_id", DEFAULT_CLIENT)
        accounts = self._world.accounts
        grant = accounts.grant(email, client_id, body.get("scopes"))
        return web.json_response(
            {
                "access_token": accounts.issue_access(grant),
                "refresh_token": accounts.issue_refresh(grant),
                "client_id": client_id,
                "email": email,
            }
        )

    async def reset(self, request: web.Request) -> web.Response:
        if not (await request.json()).get("keep_runtimes"):
            await self._runtimes.end_all("reset")
        for runtime in self._runtimes.all():
            runtime.ssh.forget_broken()
        self._runtimes.ended.clear()
        self._world.reset()
        return web.json_response({})

    async def act(self, request: web.Request) -> web.Response:
        action = self._actions.get(request.match_info["action"])
        body: dict[str, Any] = await request.json()
        runtime = self._runtimes.get(body.get("endpoint", ""))
        if action is None or runtime is None:
            refuse(404, "no such action, or no such runtime")
        return web.json_response(await action(runtime, body))

    async def _reclaim(self, runtime: Runtime, _: dict[str, Any]) -> dict[str, Any]:
        await self._runtimes.end(runtime.endpoint, "reclaimed")
        return {}

    async def _kill_machine(self, runtime: Runtime, _: dict[str, Any]) -> dict[str, Any]:
        # First what carries to Drive: to it a disk that goes would be files that were deleted.
        await runtime.view.stop()
        await runtime.machine.stop()
        return {}

    async def _crash_kernel(self, runtime: Runtime, _: dict[str, Any]) -> dict[str, Any]:
        return {"crashed": runtime.machine.crash_kernels()}

    async def _drop_websockets(self, runtime: Runtime, _: dict[str, Any]) -> dict[str, Any]:
        return {"dropped": runtime.proxy.kernels.drop()}

    async def _drop_ssh(self, runtime: Runtime, _: dict[str, Any]) -> dict[str, Any]:
        return {"dropped": runtime.ssh.drop()}

    async def _expire_tokens(self, runtime: Runtime, _: dict[str, Any]) -> dict[str, Any]:
        runtime.proxy.tokens.expire_all()
        return {}

    async def _lose_drive(self, runtime: Runtime, body: dict[str, Any]) -> dict[str, Any]:
        await runtime.view.stop()
        await runtime.machine.unmount_drive(body.get("mountpoint", _MOUNTPOINT))
        return {}


def _describe(runtime: Runtime) -> dict[str, Any]:
    return {
        "endpoint": runtime.endpoint,
        "account": runtime.account.email,
        "nbh": runtime.notebook_hash,
        "accelerator": runtime.hardware.accelerator.name,
        "high_ram": runtime.hardware.high_ram,
        "alive": runtime.machine.alive,
        "url": runtime.url,
        "log": str(runtime.machine.log),
        "kernel_websockets": runtime.proxy.kernels.open,
        "ssh_busy": runtime.ssh.busy,
        "drive_pending": runtime.view.pending,
    }
