"""`auth` as a user types it."""

from __future__ import annotations

import http.client
import json
import re
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.colab import Colab
from tests.support.colab_server.accounts import (
    COLAB_SCOPE,
    DEFAULT_EMAIL,
    DRIVE_FILE_SCOPE,
    EMAIL_SCOPE,
)
from tests.support.colab_user import CLIENT_SECRET, ColabHouse, files_with
from tests.support.terminals import at_terminal

CHECKOUT = str(Path(__file__).parents[2])


def test_login_is_kept_in_a_private_file_until_it_is_taken_back(house: ColabHouse) -> None:
    done = house.colabdev("--verbose", "auth", "login", "--client", house.client_file())
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"logged in to Google as {DEFAULT_EMAIL}; the login is kept in {house.login_file}\n"
    )
    assert stat.S_IMODE(house.login_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(house.login_file.parent.stat().st_mode) == 0o700
    house.client_file().unlink()
    check_secrets_stand_in_the_login_alone(house, done.stdout + done.stderr)
    assert house.colabdev_json("auth", "status")["login"] == {
        "source": "own client",
        "where": str(house.login_file),
        "email": DEFAULT_EMAIL,
        "scopes": sorted([EMAIL_SCOPE, COLAB_SCOPE, DRIVE_FILE_SCOPE, "openid"]),
        "usable": True,
    }
    assert house.colabdev("auth", "login").returncode == 0, "by the client of the last one"
    kept = house.login_file.read_text()
    assert house.colabdev("auth", "logout").stdout == "logged out\n"
    assert not house.login_file.exists()
    house.login_file.write_text(kept)
    assert house.colabdev("auth", "status").returncode == 10, "Google takes it no more"
    house.login_file.unlink()
    assert "no login of colabdev's own" in house.colabdev("auth", "logout").stdout


def check_secrets_stand_in_the_login_alone(house: ColabHouse, said: str) -> None:
    secret = json.loads(house.login_file.read_text())["secret"]
    for text in (*secret.values(), "ya29.", "code=4"):
        assert text not in said
    for text in (secret["refresh_token"], CLIENT_SECRET):
        assert files_with(text, house.root) == [str(house.login_file.relative_to(house.root))]


def test_login_is_pasted_where_there_is_no_browser(house: ColabHouse) -> None:
    """The browser is on another computer, where the last address opens nothing."""
    login = ("auth", "login", "--client", str(house.client_file()), "--no-browser")
    without_keyboard = house.colabdev(*login)
    assert without_keyboard.returncode == 2
    assert "stdin is no terminal" in without_keyboard.stderr
    for spoil, code in ((True, 10), (False, 0)):
        with at_terminal(house, *login, size=(2000, 24)) as user:
            user.expect(b"paste that address here:")
            page = re.search(r"https?://\S+/o/oauth2/v2/auth\?\S+", user.output.decode())
            assert page is not None
            address = last_address(page[0])
            typed = address.replace("state=", "state=x") if spoil else address
            user.type(typed.encode() + b"\r")
            assert user.finish() == code, user.output
            assert ("and copy all of the last address" in user.output.decode()) == spoil
    assert house.colabdev("auth", "status").returncode == 0


def last_address(page: str) -> str:
    """Where a browser in which the user says yes is sent."""
    url = urlsplit(page)
    connection = http.client.HTTPConnection(url.netloc, timeout=20)
    try:
        connection.request("GET", f"{url.path}?{url.query}")
        return connection.getresponse().headers["Location"]
    finally:
        connection.close()


def test_login_is_kept_in_a_keyring_that_works(house: ColabHouse) -> None:
    keyring = house.root / "keyring.json"
    works = {
        "PYTHON_KEYRING_BACKEND": "tests.support.keyrings.Working",
        "KEYRING_FILE": str(keyring),
        "PYTHONPATH": CHECKOUT,
    }
    done = house.type("auth", "login", "--client", str(house.client_file()), **works)
    assert "kept in the system's keyring" in done.stdout, done.stderr
    secret = json.loads(json.loads(keyring.read_text())["colabdev google"])
    assert files_with(secret["refresh_token"], house.root) == ["keyring.json"]
    assert house.type("auth", "status", **works).returncode == 0
    waits = {**works, "PYTHON_KEYRING_BACKEND": "tests.support.keyrings.Waiting"}
    locked = house.type("auth", "status", **waits)
    assert locked.returncode == 10
    assert "keyring has it and does not answer" in locked.stderr
    assert house.type("auth", "logout", **works).stdout == "logged out\n"
    assert json.loads(keyring.read_text()) == {}


@pytest.mark.long
def test_login_goes_to_a_file_when_the_keyring_hangs(house: ColabHouse) -> None:
    waits = {
        "PYTHON_KEYRING_BACKEND": "tests.support.keyrings.Waiting",
        "PYTHONPATH": CHECKOUT,
        "KEYRING_FILE": "unused",
    }
    done = house.type("auth", "login", "--client", str(house.client_file()), **waits)
    assert f"kept in {house.login_file}" in done.stdout, done.stderr


def test_login_without_a_client_says_how_to_make_one(house: ColabHouse) -> None:
    done = house.colabdev("auth", "login")
    assert done.returncode == 10
    assert 'application type "Desktop app"' in done.stderr
    assert "gcloud auth application-default login --scopes=" in done.stderr


def test_login_with_a_web_client_is_refused(house: ColabHouse) -> None:
    done = house.colabdev("auth", "login", "--client", house.client_file("web"))
    assert done.returncode == 2
    assert "it has 'web' where \"installed\" should stand" in done.stderr


def test_gcloud_login_is_used_when_there_is_no_other(house: ColabHouse) -> None:
    path = house.log_in_by_gcloud()
    login = house.colabdev_json("auth", "status")["login"]
    assert (login["source"], login["where"], login["usable"]) == ("gcloud", str(path), True)
    house.log_in()
    assert house.colabdev_json("auth", "status")["login"]["source"] == "own client"


def test_login_without_a_scope_names_it_and_the_command(house: ColabHouse) -> None:
    house.log_in_by_gcloud(scopes=["openid", EMAIL_SCOPE])
    document = house.colabdev_json("auth", "status", code=10)
    assert document["login"]["usable"] is False
    assert document["error"]["message"].endswith("missing: colaboratory")
    assert document["error"]["hint"].startswith("gcloud auth application-default login")
    assert COLAB_SCOPE in document["error"]["hint"]


def test_service_account_is_refused(house: ColabHouse) -> None:
    path = house.log_in_by_gcloud()
    path.write_text('{"type": "service_account", "private_key": "planted"}')
    done = house.colabdev("auth", "status")
    assert done.returncode == 10
    assert "a login of kind 'service_account'" in done.stderr
    assert "planted" not in done.stderr


def test_expired_login_names_the_way_back(house: ColabHouse, colab: Colab) -> None:
    house.log_in()
    colab.fault("token_error", "invalid_grant")
    done = house.colabdev("auth", "status")
    assert done.returncode == 10
    assert "has expired or was taken back" in done.stderr
    assert "next: colabdev auth login" in done.stderr


def test_without_network_a_login_is_not_called_bad(house: ColabHouse) -> None:
    house.log_in()
    done = house.type("auth", "status", COLABDEV_OAUTH_URL="http://127.0.0.1:9")
    assert done.returncode == 12
    assert "cannot reach Google" in done.stderr


def test_damaged_login_is_said_and_made_anew(house: ColabHouse) -> None:
    house.login_file.parent.mkdir()
    house.login_file.write_text("{")
    damaged = house.colabdev("auth", "status")
    assert damaged.returncode == 1
    assert "cannot read your login" in damaged.stderr
    house.log_in()
    assert house.colabdev("auth", "status").returncode == 0


def test_terms_are_accepted_and_withdrawn(house: ColabHouse) -> None:
    assert (
        "Without a positive balance colabdev refuses SSH" in house.colabdev("auth", "terms").stdout
    )
    accepted = house.colabdev("auth", "terms", "--accept")
    assert "at your own risk" in accepted.stdout
    settings = house.places.config_dir / "settings.toml"
    assert settings.read_text() == "accept_free_tier_terms = true\n"
    house.colabdev("auth", "terms", "--withdraw")
    assert settings.read_text() == "accept_free_tier_terms = false\n"
    settings.write_text("accept_fre = 1\n")
    broken = house.colabdev("auth", "terms")
    assert broken.returncode == 2
    assert "accept_fre: extra inputs are not permitted" in broken.stderr
