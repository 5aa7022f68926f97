"""Asking the user's Google account for a login, in a browser: OAuth with PKCE and a loopback redirect
(RFC 8252), by an OAuth client of the user's own."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import requests

from colabdev.errors import AuthNeeded, RuntimeUnreachable, UsageError
from colabdev.providers.colab.wire import SCOPES, Hosts

BROWSER_TIMEOUT_S = 300.0
HTTP_TIMEOUT_S = 30.0
_SAID_YES = b"colabdev is logged in. You may close this page.\n"
_AGAIN = "colabdev auth login"

HOW_TO_MAKE_A_CLIENT = """\
cannot log in to Google: that takes an OAuth client of your own, which you make once:
  1. https://console.cloud.google.com/auth/clients   choose or make a project
  2. Create client, application type "Desktop app"; download its JSON file
  3. Audience: add your own address as a test user (such a login lasts 7 days), or publish the app
  4. colabdev auth login --client THAT_FILE.json
With gcloud on this computer there is nothing to make; colabdev uses what this leaves behind:
  {gcloud}"""


@dataclass(frozen=True, slots=True)
class DesktopClient:
    """An OAuth client of the kind "Desktop app"."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What the user allowed."""

    refresh_token: str = field(repr=False)
    access_token: str = field(repr=False)
    scopes: frozenset[str]


def load_client(path: Path) -> DesktopClient:
    """The client in a JSON file as Google's console makes them; `UsageError` when it is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(
            f"cannot read the OAuth client {path}: {exc.strerror or exc}",
            hint=f"{_AGAIN} --client FILE, with the JSON file from Google's console",
        ) from exc
    except ValueError as exc:
        raise _no_client(path, "it is not JSON") from exc
    installed = document.get("installed") if isinstance(document, dict) else None
    if not isinstance(installed, dict):
        kind = next(iter(document), "nothing") if isinstance(document, dict) else "nothing"
        raise _no_client(path, f'it has {kind!r} where "installed" should stand')
    client_id, client_secret = installed.get("client_id"), installed.get("client_secret", "")
    if not (isinstance(client_id, str) and client_id and isinstance(client_secret, str)):
        raise _no_client(path, "it names no client_id")
    return DesktopClient(client_id, client_secret)


class Consent:
    """One question to the user: `url` is the page that asks it."""

    def __init__(self, hosts: Hosts, client: DesktopClient, redirect_uri: str) -> None:
        self._hosts = hosts
        self._client = client
        self._redirect_uri = redirect_uri
        self._verifier = secrets.token_urlsafe(64)
        self._state = secrets.token_urlsafe(16)

    @property
    def url(self) -> str:
        digest = hashlib.sha256(self._verifier.encode("ascii")).digest()
        query = {
            "client_id": self._client.client_id,
            "redirect_uri": self._redirect_uri,
            "response_type": "code",
            "scope": " ".join(SCOPES),
            "state": self._state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii"),
            "code_challenge_method": "S256",
            # Without both, Google gives a refresh token only the first time.
            "access_type": "offline",
            "prompt": "consent",
        }
        return f"{self._hosts.consent_url}?{urlencode(query)}"

    def answers(self, address: str) -> bool:
        """Whether that address, which the browser was sent to, answers this question."""
        return parse_qs(urlsplit(address).query).get("state") == [self._state]

    def redeem(self, address: str) -> Grant:
        """What the user allowed, by the address that the browser was sent to at the end."""
        query = parse_qs(urlsplit(address.strip()).query)
        if "error" in query:
            raise AuthNeeded(
                f"cannot log in to Google: the answer was {query['error'][0]!r}", hint=_AGAIN
            )
        if "code" not in query or not self.answers(address.strip()):
            raise AuthNeeded(
                "cannot log in to Google: that address is not the one the browser ends at",
                hint=f"{_AGAIN}, and copy all of the last address, which has code= in it",
            )
        return self._exchange(query["code"][0])

    def _exchange(self, code: str) -> Grant:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self._client.client_id,
            "client_secret": self._client.client_secret,
            "code_verifier": self._verifier,
            "redirect_uri": self._redirect_uri,
        }
        try:
            answer = requests.post(self._hosts.token_url, data=form, timeout=HTTP_TIMEOUT_S)
            document = answer.json()
        except (requests.RequestException, ValueError) as exc:
            # Not the exception's own text, which may show the request.
            raise RuntimeUnreachable(
                f"cannot reach Google to log in: {type(exc).__name__}",
                hint=f"is this computer online? then again: {_AGAIN}",
            ) from None
        refresh_token = document.get("refresh_token")
        if answer.status_code != 200 or not isinstance(refresh_token, str):
            cause = document.get("error") or "no refresh token came"
            raise AuthNeeded(f"cannot log in to Google: {cause}", hint=_AGAIN)
        scopes = frozenset(str(document.get("scope", "")).split())
        return Grant(refresh_token, str(document.get("access_token", "")), scopes)


class Redirect:
    """Where the browser is sent at the end: a server on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        self._came = threading.Event()
        self._address = ""
        self._is_answer: Callable[[str], bool] = lambda _: False
        redirect = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # Others on this computer may knock, and browsers ask for icons.
                if not redirect._is_answer(self.path):
                    self.send_error(404)
                    return
                redirect._address = self.path
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                self.wfile.write(_SAID_YES)
                redirect._came.set()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the address has the code in it."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Redirect:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def expect(self, consent: Consent) -> None:
        """Take the answer to this question, and no other."""
        self._is_answer = consent.answers

    def wait(self) -> str:
        """The address that answers the question; `AuthNeeded` when none comes."""
        if not self._came.wait(BROWSER_TIMEOUT_S):
            raise AuthNeeded(
                f"cannot log in to Google: no answer came from the browser within "
                f"{BROWSER_TIMEOUT_S / 60:.0f} minutes",
                hint=f"{_AGAIN} --no-browser, if the browser is on another computer",
            )
        return self._address


def _no_client(path: Path, cause: str) -> UsageError:
    return UsageError(
        f'{path} is no OAuth client of type "Desktop app": {cause}',
        hint=f"make one of that type in Google's console, then {_AGAIN} --client FILE",
    )
