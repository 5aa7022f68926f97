"""The runtimes that are assigned: what makes, finds and ends them."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.support.colab_server.accounts import Account
from tests.support.colab_server.drive_view import DriveView
from tests.support.colab_server.hardware import VARIANTS, Hardware, endpoint_prefix
from tests.support.colab_server.machine import Machine
from tests.support.colab_server.metadata import Credentials, Metadata
from tests.support.colab_server.proxy import Bridge, RuntimeProxy
from tests.support.colab_server.replies import refuse
from tests.support.colab_server.sites import Site, open_site
from tests.support.colab_server.ssh_bridge import SshBridge
from tests.support.colab_server.tty import Tty
from tests.support.colab_server.world import World

_REAP_INTERVAL_S = 0.1


@dataclass(slots=True)
class Runtime:
    """One assignment and all that belongs to it."""

    endpoint: str
    account: Account
    notebook_hash: str
    hardware: Hardware
    created: float
    machine: Machine
    view: DriveView
    credentials: Credentials
    proxy: RuntimeProxy
    ssh: SshBridge
    url: str

    def describe(self) -> dict[str, Any]:
        """As `assignments` lists it, with a new proxy token."""
        token, life_s = self.proxy.tokens.mint()
        return {
            "accelerator": self.hardware.accelerator.name,
            "endpoint": self.endpoint,
            "variant": VARIANTS.index(self.hardware.accelerator.variant),
            "machineShape": int(self.hardware.high_ram),
            "runtimeProxyInfo": {
                "token": token,
                "tokenExpiresInSeconds": life_s,
                "url": self.url,
            },
        }


class Runtimes:
    def __init__(self, world: World) -> None:
        self._world = world
        self._making = asyncio.Lock()
        self._by_endpoint: dict[str, Runtime] = {}
        self.ended: dict[str, str] = {}
        """Why each of those ended that are gone."""
        self._sites: list[Site] = []
        """Those of all runtimes there were: a proxy goes on answering, with 404."""

    def all(self) -> list[Runtime]:
        return list(self._by_endpoint.values())

    def of(self, account: Account) -> list[Runtime]:
        return [runtime for runtime in self.all() if runtime.account is account]

    def get(self, endpoint: str) -> Runtime | None:
        return self._by_endpoint.get(endpoint)

    def find(self, account: Account, notebook_hash: str) -> Runtime | None:
        for runtime in self.of(account):
            if runtime.notebook_hash == notebook_hash:
                return runtime
        return None

    async def assign(self, account: Account, notebook_hash: str, hardware: Hardware) -> Runtime:
        """The runtime of this notebook, made when there is none: asking twice gives the same."""
        async with self._making:
            known = self.find(account, notebook_hash)
            if known is not None:
                return known
            if len(self.of(account)) >= self._world.facts.max_assignments:
                refuse(412, "Precondition Failed: too many assignments")
            made = await self._make(account, notebook_hash, hardware)
            self._by_endpoint[made.endpoint] = made
            self._world.journal.count("runtime made")
            return made

    async def end(self, endpoint: str, why: str) -> bool:
        """End it with everything in it; False when there is none."""
        runtime = self._by_endpoint.pop(endpoint, None)
        if runtime is None:
            return False
        self.ended[endpoint] = why
        self._world.journal.count(f"runtime ended: {why}")
        await runtime.proxy.close()
        await runtime.view.stop()
        await runtime.machine.stop()
        return True

    async def end_all(self, why: str) -> None:
        await asyncio.gather(*(self.end(one.endpoint, why) for one in self.all()))

    async def close(self) -> None:
        await self.end_all("server ended")
        await asyncio.gather(*(site.close() for site in self._sites))

    async def reap(self) -> None:
        """Take what was idle or old for too long, for ever."""
        while True:
            for runtime in self.all():
                if not runtime.machine.alive:
                    await self.end(runtime.endpoint, "died")
                elif self._world.clock.now() - runtime.created > self._world.facts.lifetime_s:
                    await self.end(runtime.endpoint, "lifetime")
                elif runtime.proxy.kernels.silent_s > self._world.facts.idle_timeout_s:
                    await self.end(runtime.endpoint, "idle")
            await asyncio.sleep(_REAP_INTERVAL_S)

    async def _make(self, account: Account, notebook_hash: str, hardware: Hardware) -> Runtime:
        world = self._world
        prefix = endpoint_prefix(hardware.accelerator, high_ram=hardware.high_ram)
        endpoint = f"{prefix}-{secrets.token_hex(6)}"
        machine = Machine(world.state / "machines" / endpoint, endpoint, hardware)
        ssh = SshBridge(world, machine, enabled=not world.faults.take("no_ssh"))
        bridges: dict[str, Bridge] = {"/colab/ssh": ssh, "/colab/tty": Tty(world, machine)}
        proxy = RuntimeProxy(world, machine, hardware.accelerator, bridges)
        view = DriveView(world, world.clouds.of(account.email), machine.drive)
        credentials = Credentials(world)

        async def unassign() -> None:
            await self.end(endpoint, "unassigned from within")

        metadata = Metadata(world, account, credentials, machine, view, unassign)
        everything = [web.route("*", "/{path:.*}", proxy.handle)]
        sites = [
            await open_site(everything, world.journal, endpoint),
            await open_site(metadata.routes(), world.journal, f"{endpoint} metadata"),
        ]
        self._sites += sites
        address = sites[1].url.removeprefix("http://")
        variables = ("TBE_RUNTIME_ADDR", "TBE_EPHEM_CREDS_ADDR", "TBE_CREDS_ADDR")
        await machine.start(
            dict.fromkeys(variables, address), boot_delay_s=world.facts.boot_delay_s
        )
        return Runtime(
            endpoint,
            account,
            notebook_hash,
            hardware,
            world.clock.now(),
            machine,
            view,
            credentials,
            proxy,
            ssh,
            sites[0].url,
        )
