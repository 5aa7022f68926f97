"""Planted secrets go, ordinary text stays."""

from __future__ import annotations

import pytest

from colabdev.core.redact import Redactor, is_secret_name, redact, secret_values
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
        ("https://jane:hunter2@host/x", "hunter2"),
        ("Authorization: Basic aHVudGVyMg==", "aHVudGVyMg"),
        ("Cookie: a=b; session=hunter2", "hunter2"),
        ("train --hf-token hunter2 --lr 1", "hunter2"),
        ('["train.py", "--hf-token", "hunter2"]', "hunter2"),
        ('["--password",\n "hunter2"]', "hunter2"),
        ("ghp_abcdefghijklmnopqrstuvwxyz", "abcdefghij"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "abcdefghij"),
        ("sk-proj-abcdefghijklmnopqrstuv", "abcdefghij"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
        ('"key": "5a5a5a', "5a5a5a"),  # Of a file that was cut off.
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


REDACTOR = Redactor(
    secrets=["opaque-value", "short"], homes=["/home/jane", "/", ""], users=["jane"]
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/jane/project", "~/project"),
        ("/home/janet and /home/jane", "/home/USER and ~"),
        ("/mnt/home/jane/x", "/mnt/home/USER/x"),
        ("C:\\Users\\Some One", "C:\\Users\\USER One"),
        ("/mnt/c/Users/somebody/.ssh", "/mnt/c/Users/USER/.ssh"),
        ("jane@host, janes", "USER@host, janes"),
        ("said opaque-value.", "said [redacted]."),
        ("short words stay", "short words stay"),
    ],
)
def test_whose_computer_it_is_is_left_out(text: str, expected: str) -> None:
    assert REDACTOR.text(text) == expected


def test_root_is_no_name() -> None:
    assert (
        Redactor(secrets=[], homes=["/root"], users=["root"]).text("root in /root/x")
        == "root in ~/x"
    )


def test_commands_in_an_ssh_configuration_are_cut() -> None:
    text = """Host a
  ProxyCommand websocat -H "X-Any: hunter2" wss://x
  ProxyCommand "sh -c 'hunter2'"
  ProxyCommand=nc hunter2
  ProxyCommand none
  SetEnv ANY=hunter2
  Port 22
"""
    assert (
        REDACTOR.ssh_config(text)
        == """Host a
  ProxyCommand websocat [redacted]
  ProxyCommand  [redacted]
  ProxyCommand=nc [redacted]
  ProxyCommand none
  SetEnv ANY [redacted]
  Port 22
"""
    )


def test_document_keeps_its_shape() -> None:
    document = {
        "key": "anything",
        "argv": ["train.py", "-x", "hunter2"],
        "env": {"ANY": "hunter2"},
        "public_key": "ssh-ed25519 AAAA",
        "projects": [{"path": "/home/jane/p", "count": 3, "none": None}],
    }
    assert REDACTOR.document(document) == {
        "key": "[redacted]",
        "argv": ["train.py", "(2 more)"],
        "env": "[redacted]",
        "public_key": "ssh-ed25519 AAAA",
        "projects": [{"path": "~/p", "count": 3, "none": None}],
    }


def test_secret_variables_are_told_by_their_names() -> None:
    secrets = ["WANDB_API_KEY", "HF_TOKEN", "DB_PASS", "AWS_SECRET_ACCESS_KEY", "OPENAI_KEY"]
    assert secret_values({name: name for name in (*secrets, "PATH", "KEYBOARD", "LANG")}) == {
        *secrets
    }
    assert not is_secret_name("host_key")


def test_own_hosts_and_the_commands_that_lead_there_are_left_out() -> None:
    redactor = Redactor(
        secrets=[], homes=[], users=["jane", "jdoe"], hosts=["lab.example.com", "example.com"]
    )
    assert redactor.text("jdoe@lab.example.com, my-lab.example.com") == "USER@HOST, my-lab.HOST"
    assert redactor.document({"proxy_command": "ssh -W x hop"}) == {
        "proxy_command": "ssh [redacted]"
    }
    assert redactor.text('{"proxy_command": "nc \\"hunter2\\" hunter2') == "{[redacted]"
