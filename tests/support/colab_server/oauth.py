"""The token endpoints: `oauth2.googleapis.com` and the consent page of `accounts.google.com`."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

from aiohttp import web

from tests.support.colab_server.accounts import DEFAULT_EMAIL, Code, Grant
from tests.support.colab_server.replies import refuse
from tests.support.colab_server.world import World


class OAuth:
    def __init__(self, world: World) -> None:
        self._world = world
        self._accounts = world.accounts

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/o/oauth2/v2/auth", self.consent),
            web.get("/o/oauth2/auth", self.consent),
            web.post("/token", self.token),
            web.get("/tokeninfo", self.tokeninfo),
            web.post("/revoke", self.revoke),
            web.get("/drive-consent", self.drive_consent),
        ]

    async def consent(self, request: web.Request) -> web.Response:
        """The page on which a user says yes; here everybody does at once."""
        query = request.query
        redirect_uri = query.get("redirect_uri", "")
        if not redirect_uri or "client_id" not in query or query.get("response_type") != "code":
            refuse(400, "Error 400: invalid_request")
        if query.get("code_challenge_method", "S256") != "S256":
            refuse(400, "Error 400: invalid_request, only S256 here")
        grant = self._accounts.grant(
            query.get("login_hint", DEFAULT_EMAIL),
            query["client_id"],
            query.get("scope", "").split(),
        )
        text = self._accounts.issue_code(Code(grant, redirect_uri, query.get("code_challenge")))
        answer = {"code": text, "scope": " ".join(sorted(grant.scopes))}
        if "state" in query:
            answer["state"] = query["state"]
        raise web.HTTPFound(f"{redirect_uri}?{urlencode(answer)}")

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        kind = form.get("grant_type", "")
        self._world.journal.count(f"token {kind}")
        if (error := self._world.faults.take("token_error")) is not None:
            return _oauth_error(str(error))
        if kind == "refresh_token":
            found = self._accounts.refresh(form.get("refresh_token", ""), form.get("client_id", ""))
            if found is not None and "scope" in form:
                # A token may be of less than was granted, never of more.
                narrow = frozenset(form["scope"].split())
                if not narrow <= found.scopes:
                    return _oauth_error("invalid_scope")
                found = replace(found, scopes=narrow)
            return self._tokens(found, with_refresh=False)
        if kind == "authorization_code":
            code, redirect_uri = form.get("code", ""), form.get("redirect_uri", "")
            found = self._accounts.redeem(code, redirect_uri, form.get("code_verifier"))
            return self._tokens(found, with_refresh=True)
        return _oauth_error("unsupported_grant_type")

    def _tokens(self, grant: Grant | None, *, with_refresh: bool) -> web.Response:
        if grant is None:
            return _oauth_error("invalid_grant")
        token = self._accounts.issue_access(grant)
        answer: dict[str, object] = {
            "access_token": token,
            "expires_in": self._accounts.expires_in(token),
            "scope": " ".join(sorted(grant.scopes)),
            "token_type": "Bearer",
        }
        if with_refresh:
            answer["refresh_token"] = self._accounts.issue_refresh(grant)
        return web.json_response(answer)

    async def tokeninfo(self, request: web.Request) -> web.Response:
        token = request.query.get("access_token", "")
        grant = self._accounts.access(token)
        if grant is None:
            return web.json_response(
                {"error": "invalid_token", "error_description": "Invalid Value"}, status=400
            )
        left = self._accounts.expires_in(token)
        return web.json_response(
            {
                "azp": grant.client_id,
                "aud": grant.client_id,
                "scope": " ".join(sorted(grant.scopes)),
                "exp": str(int(self._world.clock.now()) + left),
                "expires_in": str(left),
                "email": grant.account.email,
                "email_verified": "true",
            }
        )

    async def revoke(self, request: web.Request) -> web.Response:
        token = str((await request.post()).get("token", request.query.get("token", "")))
        if not self._accounts.revoke(token):
            return _oauth_error("invalid_token")
        return web.json_response({})

    async def drive_consent(self, request: web.Request) -> web.Response:
        """Where `unauthorized_redirect_uri` leads: opening it is consenting. Nothing comes back to
        the client."""
        account = self._accounts.by_email.get(request.query.get("account", ""))
        if account is None:
            refuse(404, "no such account")
        account.consented = True
        self._world.journal.count("drive consent")
        return web.Response(text="You may close this page.")


def _oauth_error(code: str) -> web.Response:
    document = {"error": code, "error_description": f"{code}, says the stand-in"}
    return web.json_response(document, status=400)
