"""The session backend: `/tun/m/*` of `colab.research.google.com`."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from typing import Any

from aiohttp import web
from yarl import URL

from tests.support.colab_server.accounts import COLAB_SCOPE, EMAIL_SCOPE, Account
from tests.support.colab_server.hardware import (
    ACCELERATORS,
    VARIANTS,
    Accelerator,
    Hardware,
)
from tests.support.colab_server.replies import break_connection, refuse, xssi_json
from tests.support.colab_server.runtimes import Runtime, Runtimes
from tests.support.colab_server.world import World

AUTH_TYPES = ("dfs_ephemeral", "auth_user_ephemeral")
_NOTEBOOK_HASH = re.compile(r"[A-Za-z0-9_.-]{44}")
_FRONTEND_IDLE_S = 3600


class Tun:
    def __init__(self, world: World, runtimes: Runtimes) -> None:
        self._world = world
        self._runtimes = runtimes
        self._xsrf_key = secrets.token_bytes(32)
        self._given_back: dict[str, Any] = {}

    def routes(self) -> list[web.RouteDef]:
        propagation = "/tun/m/credentials-propagation/{endpoint}"
        unassign = "/tun/m/unassign/{endpoint}"
        return [
            web.get("/tun/m/assign", self.look_up),
            web.post("/tun/m/assign", self.assign),
            web.get("/tun/m/assignments", self.assignments),
            web.get(unassign, self.unassign_token),
            web.post(unassign, self.unassign),
            web.get("/tun/m/ccu-info", self.ccu_info),
            web.get(propagation, self.propagation_token),
            web.post(propagation, self.propagate),
            web.get("/tun/m/runtime-proxy-token", self.proxy_token),
            web.get("/tun/m/{endpoint}/keep-alive/", self.keep_alive),
            web.route("*", "/tun/m/{endpoint}/api/{path:.*}", self.mirror),
            web.get("/vscode/experiment-state", self.experiments),
            web.get("/userdata/list", self.secrets),
        ]

    async def look_up(self, request: web.Request) -> web.Response:
        account = self._account(request)
        notebook_hash = _notebook_hash(request)
        hardware = _wanted(request)
        known = self._runtimes.find(account, notebook_hash)
        if known is not None:
            return self._answer(self._assignment(known))
        document = {
            "acc": hardware.accelerator.name,
            "nbh": notebook_hash,
            "p": bool(self._world.faults.take("captcha")),
            "token": self._xsrf(account, request.path),
            "variant": hardware.accelerator.variant,
        }
        return self._answer(document)

    async def assign(self, request: web.Request) -> web.Response:
        account = self._account(request)
        self._check_xsrf(request, account)
        notebook_hash, hardware = _notebook_hash(request), _wanted(request)
        faults = self._world.faults
        await asyncio.sleep(faults.take("assign_delay_s") or 0)
        if (status := faults.take("assign_status")) is not None:
            refuse(status, "refused on purpose")
        if (outcome := faults.take("assign_outcome")) is not None:
            return self._answer({"outcome": outcome})
        if not _is_entitled(account, hardware.accelerator):
            refuse(400, "Bad Request: not entitled to this accelerator")
        if (gives := faults.take("assign_gives")) is not None:
            hardware = Hardware(ACCELERATORS[gives], hardware.high_ram)
        runtime = await self._runtimes.assign(account, notebook_hash, hardware)
        if faults.take("ambiguous_assign"):
            break_connection(request)
        subscription = {"sub": account.sub, "subTier": account.sub_tier, "outcome": 4}
        return self._answer({**self._assignment(runtime), **subscription})

    async def assignments(self, request: web.Request) -> web.Response:
        account = self._account(request)
        listed = [runtime.describe() for runtime in self._runtimes.of(account)]
        if self._given_back and self._world.faults.take("list_lags"):
            listed.append(self._given_back)
        if (body := self._world.faults.take("list_gives")) is not None:
            return web.Response(text=body, content_type="application/json")
        return self._answer({"assignments": listed})

    async def unassign_token(self, request: web.Request) -> web.Response:
        account = self._account(request)
        self._runtime(request, account)
        return self._answer({"token": self._xsrf(account, request.path)})

    async def unassign(self, request: web.Request) -> web.Response:
        account = self._account(request)
        self._check_xsrf(request, account)
        if (status := self._world.faults.take("unassign_status")) is not None:
            refuse(status, "refused on purpose")
        runtime = self._runtime(request, account)
        self._given_back = runtime.describe()
        await self._runtimes.end(runtime.endpoint, "unassigned")
        return web.Response(status=204)

    async def ccu_info(self, request: web.Request) -> web.Response:
        account = self._account(request)
        mine = self._runtimes.of(account)
        listed: dict[str, list[str]] = {}
        for name, row in ACCELERATORS.items():
            if row.variant != "DEFAULT":
                verdict = "eligible" if _is_entitled(account, row) else "ineligible"
                kind = row.variant.capitalize().replace("pu", "pus")
                listed.setdefault(f"{verdict}{kind}", []).append(name)
        return self._answer(
            {
                "currentBalance": account.balance,
                "consumptionRateHourly": sum(one.hardware.accelerator.rate_hourly for one in mine),
                "assignmentsCount": len(mine),
                "freeCcuQuotaInfo": {
                    "remainingTokens": "12345",
                    "nextRefillTimestampSec": int(self._world.clock.now()) + 86400,
                },
                **listed,
            }
        )

    async def propagation_token(self, request: web.Request) -> web.Response:
        account = self._account(request)
        self._runtime(request, account)
        return self._answer({"token": self._xsrf(account, request.path)})

    async def propagate(self, request: web.Request) -> web.Response:
        account = self._account(request)
        self._check_xsrf(request, account)
        runtime = self._runtime(request, account)
        query = request.query
        if (status := self._world.faults.take("propagation_status")) is not None:
            refuse(status, "refused on purpose")
        if query.get("authtype") not in AUTH_TYPES or query.get("version") != "2":
            refuse(400, "Bad Request")
        dry_run = query.get("dryrun") == "true"
        self._world.journal.count(f"propagation {'dry run' if dry_run else 'for real'}")
        if not account.consented:
            page = URL(f"{self._world.base_url}/drive-consent").with_query(account=account.email)
            return self._answer({"success": False, "unauthorized_redirect_uri": str(page)})
        if not dry_run and query.get("propagate") == "true":
            runtime.credentials.propagate(query["authtype"])
        return self._answer({"success": True})

    async def proxy_token(self, request: web.Request) -> web.Response:
        account = self._account(request)
        _check_tunnel(request)
        runtime = self._runtimes.get(request.query.get("endpoint", ""))
        if runtime is None or runtime.account is not account:
            refuse(404, "Not Found")
        if request.query.get("port") != "8080":
            refuse(501, "the stand-in has only port 8080")
        return self._answer(runtime.describe()["runtimeProxyInfo"])

    async def keep_alive(self, request: web.Request) -> web.Response:
        """Answered, and without effect on when a runtime is taken for idle."""
        account = self._account(request)
        _check_tunnel(request)
        self._runtime(request, account)
        return web.Response(text="")

    async def mirror(self, request: web.Request) -> web.StreamResponse:
        account = self._account(request)
        _check_tunnel(request)
        runtime = self._runtime(request, account)
        target = f"/api/{request.rel_url.raw_path.split('/api/', 1)[1]}"
        query = request.rel_url.raw_query_string
        return await runtime.proxy.forward(
            request, URL(f"{target}?{query}" if query else target, encoded=True)
        )

    async def experiments(self, request: web.Request) -> web.Response:
        names = ["2026.01", "2025.10", "2025.07"]
        return self._answer({"experiments": {"runtime_version_names": names}})

    async def secrets(self, request: web.Request) -> web.Response:
        account = self._account(request)
        rows = [
            {"key": key, "payload": value, "access": key not in account.denied_secrets}
            for key, value in account.secrets.items()
        ]
        return self._answer(rows)

    def _account(self, request: web.Request) -> Account:
        """Whose request this is; it ends with 401 when that is not proved."""
        self._world.journal.count(f"{request.method} {_counter(request)}")
        if (status := self._world.faults.take("backend_status")) is not None:
            refuse(status, "refused on purpose")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        grant = self._world.accounts.access(token) if scheme == "Bearer" else None
        if grant is None or not {EMAIL_SCOPE, COLAB_SCOPE} <= grant.scopes:
            refuse(401, "Unauthorized")
        if request.query.get("authuser") != "0":
            refuse(self._world.facts.wrong_authuser_status, "Bad Request: authuser")
        return grant.account

    def _runtime(self, request: web.Request, account: Account) -> Runtime:
        runtime = self._runtimes.get(request.match_info["endpoint"])
        if runtime is None or runtime.account is not account:
            refuse(404, "Not Found")
        return runtime

    def _assignment(self, runtime: Runtime) -> dict[str, Any]:
        return {**runtime.describe(), "fit": _FRONTEND_IDLE_S, "allowedCredentials": True}

    def _answer(self, document: Any) -> web.Response:
        return xssi_json(document, prefix=not self._world.faults.take("no_xssi"))

    def _xsrf(self, account: Account, path: str) -> str:
        """A token for POSTs to this path by this account. It may be used again: Google's own client
        does so."""
        nonce = secrets.token_hex(8)
        return f"{nonce}:{self._xsrf_proof(nonce, account, path)}"

    def _xsrf_proof(self, nonce: str, account: Account, path: str) -> str:
        said = f"{nonce} {account.email} {path}".encode()
        return hmac.new(self._xsrf_key, said, hashlib.sha256).hexdigest()

    def _check_xsrf(self, request: web.Request, account: Account) -> None:
        nonce, _, proof = request.headers.get("X-Goog-Colab-Token", "").partition(":")
        if not hmac.compare_digest(proof, self._xsrf_proof(nonce, account, request.path)):
            refuse(self._world.facts.bad_xsrf_status, "XSRF token missing or wrong")


def _counter(request: web.Request) -> str:
    """The request's path without what differs from runtime to runtime."""
    resource = request.match_info.route.resource
    return request.path if resource is None else resource.canonical


def _check_tunnel(request: web.Request) -> None:
    if request.headers.get("X-Colab-Tunnel") != "Google":
        refuse(400, "Bad Request: X-Colab-Tunnel")


def _notebook_hash(request: web.Request) -> str:
    text = request.query.get("nbh", "")
    if not _NOTEBOOK_HASH.fullmatch(text):
        refuse(400, "Bad Request: nbh")
    return text


def _wanted(request: web.Request) -> Hardware:
    """What the query asks for; 400 when there is no such thing."""
    query = request.query
    variant, name = query.get("variant", "DEFAULT"), query.get("accelerator", "NONE")
    accelerator = ACCELERATORS.get(name)
    if variant not in VARIANTS or accelerator is None or accelerator.variant != variant:
        refuse(400, "Bad Request: no such accelerator")
    high_ram = query.get("shape") == "hm" and not accelerator.single_shape
    return Hardware(accelerator, high_ram)


def _is_entitled(account: Account, accelerator: Accelerator) -> bool:
    return accelerator.name == "NONE" or accelerator.name in account.accelerators
