"""What a runtime's own programs can ask: `TBE_RUNTIME_ADDR` and `TBE_EPHEM_CREDS_ADDR`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from tests.support.colab_server.accounts import DRIVE_SCOPE, Account
from tests.support.colab_server.drive_view import DriveView
from tests.support.colab_server.machine import Machine
from tests.support.colab_server.machine_init import MOUNT_VIEW
from tests.support.colab_server.replies import refuse
from tests.support.colab_server.world import World


class Credentials:
    """What a client propagated to the runtime."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._until: dict[str, float] = {}

    def propagate(self, auth_type: str) -> None:
        life_s = self._world.facts.drive_credentials_life_s
        self._until[auth_type] = self._world.clock.now() + life_s

    def has(self, auth_type: str) -> bool:
        return self._world.clock.now() < self._until.get(auth_type, 0)


class Metadata:
    def __init__(
        self,
        world: World,
        account: Account,
        credentials: Credentials,
        machine: Machine,
        view: DriveView,
        unassign: Callable[[], Awaitable[None]],
    ) -> None:
        self._world = world
        self._account = account
        self._credentials = credentials
        self._machine = machine
        self._view = view
        self._unassign = unassign

    def routes(self) -> list[web.RouteDef]:
        token = "/computeMetadata/v1/instance/service-accounts/{account}/token"
        return [
            web.post("/unassign", self.unassign),
            web.get(token, self.token),
            web.post("/drivefs/start", self.start_drive),
            web.post("/drivefs/flush", self.flush_drive),
        ]

    async def unassign(self, request: web.Request) -> web.Response:
        self._world.journal.count("runtime unassigned itself")
        await self._unassign()
        return web.Response()

    async def token(self, request: web.Request) -> web.Response:
        if request.headers.get("Metadata-Flavor") != "Google":
            refuse(403, "Missing Metadata-Flavor:Google header.")
        if not any(map(self._credentials.has, ("dfs_ephemeral", "auth_user_ephemeral"))):
            refuse(404, "no credentials were propagated")
        grant = self._world.accounts.grant(self._account.email, "metadata", [DRIVE_SCOPE])
        token = self._world.accounts.issue_access(grant)
        expires_in = self._world.accounts.expires_in(token)
        return web.json_response(
            {"access_token": token, "expires_in": expires_in, "token_type": "Bearer"}
        )

    async def start_drive(self, request: web.Request) -> web.Response:
        """What starting `/opt/google/drive/drive` is to a real machine."""
        if self._world.faults.take("kernel_crash"):
            self._machine.crash_kernels()
        failure = self._world.faults.take("mount_failure")
        if failure is None and not self._credentials.has("dfs_ephemeral"):
            failure = "no credentials"
        if failure is not None:
            return web.json_response({"failure": str(failure)})
        await self._view.mount()
        self._world.journal.count("drive mounted")
        return web.json_response({"source": MOUNT_VIEW})

    async def flush_drive(self, request: web.Request) -> web.Response:
        flushed = await self._view.flush()
        if flushed:
            await self._view.stop()
        self._world.journal.count("drive flushed" if flushed else "drive flush failed")
        return web.json_response({"flushed": flushed})
