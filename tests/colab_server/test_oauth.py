"""The token endpoints."""

from __future__ import annotations

import base64
import hashlib
import http.client
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.support.colab import Colab, Reply, ask

CLIENT = "mine.apps.googleusercontent.com"
REDIRECT = "http://127.0.0.1:9/done"
SCOPES = (
    "https://www.googleapis.com/auth/userinfo.email https://www.googleapis.com/auth/colaboratory"
)
VERIFIER = "a-verifier-of-more-than-forty-three-characters-00"


def token(colab: Colab, **form: str) -> Reply:
    return ask(
        "POST",
        f"{colab.base_url}/token",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        body=urlencode(form).encode(),
    )


@pytest.fixture
def code(colab: Colab) -> str:
    """What a user's browser brings back after the consent page."""
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    query = {
        "response_type": "code",
        "client_id": CLIENT,
        "redirect_uri": REDIRECT,
        "scope": SCOPES,
        "state": "a state",
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        "login_hint": "new@example.com",
    }
    answer = _ask_without_following(f"{colab.base_url}/o/oauth2/v2/auth?{urlencode(query)}")
    assert answer.startswith(REDIRECT)
    brought = parse_qs(urlsplit(answer).query)
    assert brought["state"] == ["a state"]
    return brought["code"][0]


def exchange(colab: Colab, code: str, **other: str) -> Reply:
    form = {"code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER, "client_id": CLIENT}
    return token(colab, **{"grant_type": "authorization_code", **form, **other})


def test_code_gives_tokens_that_work_and_refresh(colab: Colab, code: str) -> None:
    given = exchange(colab, code).json
    assert set(given["scope"].split()) == set(SCOPES.split())
    assert colab.call("GET", "/tun/m/ccu-info", token=given["access_token"]).status == 200
    assert exchange(colab, code).json["error"] == "invalid_grant"

    colab.advance(3600)
    assert colab.call("GET", "/tun/m/ccu-info", token=given["access_token"]).status == 401
    fresh = _refresh(colab, given["refresh_token"]).json["access_token"]
    assert colab.call("GET", "/tun/m/ccu-info", token=fresh).status == 200
    told = ask("GET", f"{colab.base_url}/tokeninfo?access_token={fresh}").json
    assert (told["email"], told["aud"]) == ("new@example.com", CLIENT)
    assert 3590 <= int(told["expires_in"]) <= 3599


@pytest.mark.parametrize("wrong", [{"code_verifier": "x" * 43}, {"redirect_uri": REDIRECT + "x"}])
def test_code_of_another_is_refused(colab: Colab, code: str, wrong: dict[str, str]) -> None:
    answer = exchange(colab, code, **wrong)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")


def test_refresh_token_is_its_clients_and_can_be_revoked(colab: Colab) -> None:
    given = colab.tokens(client_id=CLIENT)
    refused = _refresh(colab, given["refresh_token"], client_id="another")
    assert refused.json["error"] == "invalid_grant"
    form = urlencode({"token": given["refresh_token"]}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask("POST", f"{colab.base_url}/revoke", headers=headers, body=form).status == 200
    assert _refresh(colab, given["refresh_token"]).json["error"] == "invalid_grant"
    assert colab.call("GET", "/tun/m/ccu-info", token=given["access_token"]).status == 401


def test_token_endpoint_can_fail(colab: Colab) -> None:
    given = colab.tokens(client_id=CLIENT)
    colab.fault("token_error", "invalid_grant", times=1)
    assert _refresh(colab, given["refresh_token"]).json["error"] == "invalid_grant"
    assert _refresh(colab, given["refresh_token"]).status == 200
    assert token(colab, grant_type="password").json["error"] == "unsupported_grant_type"


def test_tokeninfo_of_nobodys_token_is_400(colab: Colab) -> None:
    assert ask("GET", f"{colab.base_url}/tokeninfo?access_token=x").status == 400


def _refresh(colab: Colab, refresh_token: str, client_id: str = CLIENT) -> Reply:
    form = {"refresh_token": refresh_token, "client_id": client_id}
    return token(colab, grant_type="refresh_token", **form)


def _ask_without_following(url: str) -> str:
    """Where the page sends the browser."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=20)
    connection.request("GET", f"{place.path}?{place.query}")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 302
    return answer.headers["Location"]
