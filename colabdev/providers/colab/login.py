"""The user's Google login: their own, made by `auth login`, else gcloud's application default
credentials. The only module that knows google-auth."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import google.auth.exceptions
import requests
from google.auth.transport.requests import Request
from google.oauth2.credentials import Credentials

from colabdev.adapters.secrets import SecretFile
from colabdev.errors import AuthNeeded, ColabdevError, RuntimeUnreachable
from colabdev.providers.colab.consent import (
    HOW_TO_MAKE_A_CLIENT,
    HTTP_TIMEOUT_S,
    DesktopClient,
    Grant,
)
from colabdev.providers.colab.login_files import LOGIN_NAME, gcloud_login
from colabdev.providers.colab.wire import DRIVE_SCOPE, GCLOUD_COMMAND, NEEDED_SCOPES, Hosts

LOGIN_COMMAND = "colabdev auth login"
_OFFLINE_HINT = "is this computer online? then type the command again"


@dataclass(frozen=True, slots=True)
class LoginStatus:
    """A login, as `auth status` shows it."""

    source: str
    """`own client` or `gcloud`."""
    where: str
    """Where its refresh token is."""
    email: str | None = None
    scopes: tuple[str, ...] = ()
    problem: ColabdevError | None = None
    """What keeps it from being of use."""


class GoogleLogin:
    """Gives access tokens. Reads and asks nothing before the first is wanted."""

    def __init__(
        self,
        config_dir: Path,
        hosts: Hosts,
        environment: Mapping[str, str],
        *,
        timeout_s: float = HTTP_TIMEOUT_S,
    ) -> None:
        self._file = SecretFile(config_dir, LOGIN_NAME)
        self._hosts = hosts
        self._adc = gcloud_login(environment)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._relogin = LOGIN_COMMAND

    def exists(self) -> bool:
        """Whether there is a login that one could try. Asks nobody."""
        return os.path.exists(self._file.path) or os.path.exists(self._adc)

    def access_token(self, *, fresh: bool = False) -> str:
        """An access token that is good now; with `fresh` a new one, after Google refused the last.

        `AuthNeeded` says why there is none, `RuntimeUnreachable` that Google could not be asked.
        """
        with self._lock:
            if self._credentials is None:
                self._credentials = self._load()
            if fresh or not self._credentials.valid:
                self._refresh(self._credentials)
            return str(self._credentials.token)

    def mint(self, *, with_refresh: bool) -> Mapping[str, object]:
        """As `ports.DriveTokens`: narrowed to Drive, because a runtime is to get no more."""
        with self._lock:
            kept = self._load()
        client = (str(kept.refresh_token), str(kept.client_id), str(kept.client_secret))
        narrow = self._of(*client, scopes=[DRIVE_SCOPE])
        self._refresh(narrow)
        assert narrow.expiry is not None, "every token of Google's ends"
        told: dict[str, object] = {
            "access_token": str(narrow.token),
            "expires": narrow.expiry.replace(tzinfo=UTC).timestamp(),
            "scopes": [DRIVE_SCOPE],
        }
        if with_refresh:
            names = ("token", "client_id", "client_secret")
            told["refresh"] = {
                **dict(zip(names, client, strict=True)),
                "url": self._hosts.token_url,
            }
        return told

    def known_client(self) -> DesktopClient | None:
        """The OAuth client of the last `auth login`."""
        try:
            kept = self._file.load()
        except ColabdevError:
            return None  # A login that is damaged or locked away is made anew.
        if kept is None:
            return None
        public, secret, _ = kept
        return DesktopClient(str(public.get("client_id")), secret.get("client_secret", ""))

    def no_client(self) -> AuthNeeded:
        """How one gets an OAuth client."""
        return AuthNeeded(
            HOW_TO_MAKE_A_CLIENT.format(gcloud=GCLOUD_COMMAND),
            hint=f"{LOGIN_COMMAND} --client FILE.json",
        )

    def keep(self, client: DesktopClient, grant: Grant) -> LoginStatus:
        """Keep what the user allowed, once it is enough."""
        missing = NEEDED_SCOPES - grant.scopes
        if missing:
            raise AuthNeeded(
                f"Google did not allow all that is needed; missing: {_listed(missing)}",
                hint=f"{LOGIN_COMMAND}, and leave every box on Google's page ticked",
            )
        email = self._tokeninfo(grant.access_token).get("email")
        public = {
            "client_id": client.client_id,
            "email": email,
            "scopes": sorted(grant.scopes),
        }
        secret = {"refresh_token": grant.refresh_token, "client_secret": client.client_secret}
        where = self._file.save(public, secret)
        self._credentials = None
        return LoginStatus("own client", where, email, tuple(sorted(grant.scopes)))

    def status(self) -> LoginStatus:
        """How the login stands, by asking Google."""
        source, where = "gcloud", str(self._adc)
        try:
            kept = self._file.load()
            if kept is not None:
                source, where = "own client", kept[2]
            info = self._tokeninfo(self.access_token())
        except ColabdevError as exc:
            return LoginStatus(source, where if self.exists() else "nowhere", problem=exc)
        scopes = frozenset(str(info.get("scope", "")).split())
        missing = NEEDED_SCOPES - scopes
        problem = self._scopes_missing(missing) if missing else None
        return LoginStatus(source, where, info.get("email"), tuple(sorted(scopes)), problem)

    def logout(self) -> bool:
        """Take the login back at Google and forget it here; whether there was one. gcloud's is left."""
        try:
            kept = self._file.load()
        except ColabdevError:
            kept = None
        if kept is not None:
            try:
                token = {"token": kept[1]["refresh_token"]}
                requests.post(self._hosts.revoke_url, data=token, timeout=self._timeout_s)
            except requests.RequestException as exc:
                raise RuntimeUnreachable(
                    f"cannot take the login back at Google: {type(exc).__name__}",
                    hint=_OFFLINE_HINT,
                ) from None
        self._credentials = None
        return self._file.delete()

    def check_scopes(self) -> None:
        """`AuthNeeded` when Google refuses this login for what the user did not allow."""
        scopes = frozenset(str(self._tokeninfo(self.access_token()).get("scope", "")).split())
        missing = NEEDED_SCOPES - scopes
        if missing:
            raise self._scopes_missing(missing)

    def refused(self) -> AuthNeeded:
        """The error for a login that Google's session backend does not take although it is good."""
        return AuthNeeded("Google refuses this login", hint=self._relogin)

    def _load(self) -> Credentials:
        kept = self._file.load()
        if kept is not None:
            public, secret, _ = kept
            self._relogin = LOGIN_COMMAND
            return self._of(secret["refresh_token"], public["client_id"], secret["client_secret"])
        document = self._read_adc()
        self._relogin = GCLOUD_COMMAND
        return self._of(document["refresh_token"], document["client_id"], document["client_secret"])

    def _of(
        self,
        refresh_token: str,
        client_id: str,
        client_secret: str,
        *,
        scopes: Sequence[str] | None = None,
    ) -> Credentials:
        return Credentials(  # type: ignore[no-untyped-call]
            token=None,
            refresh_token=refresh_token,
            client_id=client_id,
            client_secret=client_secret,
            token_uri=self._hosts.token_url,
            scopes=scopes,
        )

    def _read_adc(self) -> dict[str, str]:
        try:
            document = json.loads(self._adc.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise AuthNeeded(
                "there is no Google login on this computer", hint=LOGIN_COMMAND
            ) from None
        except (OSError, ValueError) as exc:
            raise AuthNeeded(f"cannot read {self._adc}: {exc}", hint=GCLOUD_COMMAND) from exc
        kind = document.get("type") if isinstance(document, dict) else None
        wanted = ("refresh_token", "client_id", "client_secret")
        if kind != "authorized_user" or not all(isinstance(document.get(k), str) for k in wanted):
            raise AuthNeeded(
                f"{self._adc} is a login of kind {kind!r}; Colab takes only a user's own",
                hint=GCLOUD_COMMAND,
            )
        return {name: document[name] for name in wanted}

    def _refresh(self, credentials: Credentials) -> None:
        # Also where this computer's proxy settings are heeded.
        with requests.Session() as session:
            ask = functools.partial(Request(session), timeout=self._timeout_s)
            try:
                credentials.refresh(ask)  # type: ignore[no-untyped-call]
            except google.auth.exceptions.TransportError as exc:
                raise RuntimeUnreachable(
                    "cannot reach Google to renew the login", hint=_OFFLINE_HINT
                ) from exc
            except google.auth.exceptions.RefreshError as exc:
                raise self._not_renewed(exc) from exc

    def _not_renewed(self, exc: google.auth.exceptions.RefreshError) -> ColabdevError:
        if exc.retryable:
            return RuntimeUnreachable(
                "cannot renew the login: Google's server has trouble", hint="try again in a minute"
            )
        if "invalid_scope" in str(exc.args[:1]):
            return AuthNeeded("the Google login does not allow Drive", hint=LOGIN_COMMAND)
        if "invalid_grant" in str(exc.args[:1]):
            return AuthNeeded(
                "the Google login has expired or was taken back (one of an app in testing lasts 7 "
                "days)",
                hint=self._relogin,
            )
        return AuthNeeded(f"cannot renew the Google login: {exc.args[0]}", hint=self._relogin)

    def _tokeninfo(self, token: str) -> dict[str, Any]:
        try:
            answer = requests.get(
                self._hosts.tokeninfo_url, params={"access_token": token}, timeout=self._timeout_s
            )
            document = answer.json()
        except (requests.RequestException, ValueError) as exc:
            # Its text would show the token.
            raise RuntimeUnreachable(
                f"cannot ask Google about the login: {type(exc).__name__}", hint=_OFFLINE_HINT
            ) from None
        if answer.status_code != 200 or not isinstance(document, dict):
            raise self.refused()
        return document

    def _scopes_missing(self, missing: frozenset[str]) -> AuthNeeded:
        return AuthNeeded(
            f"the Google login does not allow all that is needed; missing: {_listed(missing)}",
            hint=self._relogin,
        )


def _listed(scopes: frozenset[str]) -> str:
    return ", ".join(sorted(scope.rpartition("/")[2] for scope in scopes))
