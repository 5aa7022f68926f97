"""Which files are named because of what programs keep in them."""

from __future__ import annotations

from colabdev.core.secret_files import describe_secret_files, holds_secrets

SECRET = [".env", "app/.env.production", ".netrc", "deploy/id_ed25519", "tls/server.pem", "api.key"]
SECRET += [
    "credentials.json",
    "client_secret_1.apps.json",
    ".streamlit/secrets.toml",
    "KAGGLE.JSON",
]
OTHERS = [
    ".env.example",
    ".env.sample",
    "sample.pem",
    "env.py",
    ".environment",
    "id_rsa.pub",
    "keys.py",
]
OTHERS += ["monkey", "train.py", ".env/bin/python", "tests/credentials.py", "public.pem"]


def test_files_that_hold_secrets_are_told_by_their_names() -> None:
    assert [path for path in [*SECRET, *OTHERS] if holds_secrets(path)] == SECRET


def test_they_are_said_with_what_keeps_them_here() -> None:
    assert describe_secret_files(OTHERS, has_drive=True) == ""
    assert describe_secret_files(["train.py", ".env"], has_drive=True) == (
        ".env may hold secrets, and goes to the runtime and to Drive; "
        "a line in .colabdevignore keeps it here"
    )
    assert describe_secret_files(SECRET, has_drive=False).endswith(
        "/secrets.toml and 7 more may hold secrets, and go to the runtime; "
        "lines in .colabdevignore keep them here"
    )
