"""`auth ngrok` as a user types it: where the token is kept, and that it is shown nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.ngrok_edge import TOKEN

WORKS = {"PYTHON_KEYRING_BACKEND": "tests.support.keyrings.Working"}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def _auth(
    house: House, *words: str, stdin: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    paths = {"PYTHONPATH": str(Path(__file__).parents[2]), **env}
    done = subprocess.run(
        [sys.executable, "-m", "colabdev", "auth", *words],
        env=house.environment | paths,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert TOKEN not in done.stdout + done.stderr
    return done


def test_token_is_kept_in_a_private_file_without_a_keyring(house: House) -> None:
    done = _auth(house, "ngrok", stdin=f' "{TOKEN}"\n')  # As copied from a line of code.
    file = house.places.config_dir / "ngrok.json"
    assert done.stdout == f"the ngrok token is kept in {file}\n", done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["secret"] == {"token": TOKEN}
    told = json.loads(_auth(house, "status", "--json").stdout)
    assert told["ngrok"]["where"] == str(file)
    assert told["ngrok"]["counted"]["bytes"] == 0
    assert _auth(house, "ngrok", stdin="not a token\n").returncode == 2
    assert json.loads(file.read_text())["secret"] == {"token": TOKEN}
    assert _auth(house, "ngrok", "--remove").stdout == "the ngrok token is forgotten\n"
    assert _auth(house, "ngrok", "--remove").stdout == "there was no ngrok token\n"
    assert json.loads(_auth(house, "status", "--json").stdout)["ngrok"] is None


def test_token_is_kept_in_the_keyring_that_answers(house: House, tmp_path: Path) -> None:
    keyring = WORKS | {"KEYRING_FILE": str(tmp_path / "keyring.json")}
    done = _auth(house, "ngrok", stdin=TOKEN, **keyring)
    assert done.stdout == "the ngrok token is kept in the system's keyring\n", done.stderr
    assert TOKEN not in (house.places.config_dir / "ngrok.json").read_text()
    assert "NGROK_AUTHTOKEN" in _auth(house, "status", NGROK_AUTHTOKEN=TOKEN, **keyring).stdout
