"""Planted secrets go, ordinary text stays."""

from __future__ import annotations

import pytest

from colabdev.core.redact import redact
from tests.support.keys import make_keypair

KEY_HEX = "0123456789abcdef" * 4
ACCESS = "ya29.a0AfB_byC-dEf.gHi123"
REFRESH = "1//0gabcdefghijklmnopqrstuvwxyz-_"
NGROK = "2" + "aB3" * 8 + "xY" + "_" + "7Kq" * 7


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"keeper key {KEY_HEX}", KEY_HEX),
        (f'{{"key": "{KEY_HEX}"}}', KEY_HEX),
        (f"Authorization: Bearer {ACCESS}", ACCESS),
        ("authorization: bearer opaque-word", "opaque-word"),
        (f"got {ACCESS} back", ACCESS),
        (f"refreshed with {REFRESH}", REFRESH),
        (f"ngrok config {NGROK}", NGROK),
        ("NGROK_AUTHTOKEN=hunter2", "hunter2"),
        ("token=hunter2", "hunter2"),
        ("access_token : hunter2", "hunter2"),
        ('"access_token": "hunter2"', "hunter2"),
        ("{'client_secret': 'hunter2', 'x': 1}", "hunter2"),
        ("password: hunter2", "hunter2"),
        ("password = 'hunter2 with spaces'", "spaces"),
        ('{"password":"hunter2 with spaces"}', "spaces"),
        ("PASSWD=hunter2", "hunter2"),
        ("api_key=hunter2", "hunter2"),
        ("apikey=hunter2", "hunter2"),
        ("https://x/?authuser=0&api_key=hunter2", "hunter2"),
    ],
)
def test_secret_is_redacted(text: str, secret: str) -> None:
    cleaned = redact(f"before {text} after")
    assert secret not in cleaned
    assert "[redacted]" in cleaned
    assert cleaned.startswith("before ")


def test_private_key_is_redacted(tmp_path_factory: pytest.TempPathFactory) -> None:
    private = make_keypair(tmp_path_factory.mktemp("key")).private.read_text()
    cleaned = redact(f"before\n{private}after")
    assert cleaned == "before\n[redacted]\nafter"
    assert not any(line in cleaned for line in private.splitlines())


def test_every_secret_of_a_text_is_redacted() -> None:
    assert redact(f"{KEY_HEX} and {ACCESS}\n{KEY_HEX}") == ("[redacted] and [redacted]\n[redacted]")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cannot reach 'local': connection refused",
        'File "/content/train.py", line 3, in <module>',
        "commit 7ddff27aa0e1b2c3d4e5f60718293a4b5c6d7e8f",  # 40 digits: a git hash.
        "uuid 550e8400-e29b-41d4-a716-446655440000",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBRFczrG4bSPDHJyhzTIh0zVZFlHsZLk4VTXgnoHVbqY",
        "https://example.com//path",
        "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----",
        "tokens were 12 and the keyboard is fine",
    ],
)
def test_ordinary_text_is_kept(text: str) -> None:
    assert redact(text) == text
