"""What a key file says without its passphrase: files that ssh-keygen made."""

from __future__ import annotations

from pathlib import Path

import pytest

from colabdev.core.private_keys import key_kind, parse_private_key, parse_public_line
from tests.support.own_hosts import keygen

NAMES = {"ed25519": "ssh-ed25519", "rsa": "ssh-rsa", "ecdsa": "ecdsa-sha2-nistp256"}


@pytest.mark.parametrize("passphrase", ["", "a passphrase"])
@pytest.mark.parametrize("kind", NAMES)
def test_kind_and_passphrase_are_told(tmp_path: Path, kind: str, passphrase: str) -> None:
    key = keygen(tmp_path / "key", kind, passphrase=passphrase)
    file = parse_private_key(key.private.read_text())
    assert file is not None
    assert file.kind == NAMES[kind]
    assert file.is_encrypted == bool(passphrase)
    assert file.public == parse_public_line(key.public)


@pytest.mark.parametrize("form", ["PEM", "PKCS8"])
@pytest.mark.parametrize("passphrase", ["", "a passphrase"])
def test_old_form_tells_at_least_the_passphrase(tmp_path: Path, form: str, passphrase: str) -> None:
    key = keygen(tmp_path / "key", "rsa", "-m", form, passphrase=passphrase)
    file = parse_private_key(key.private.read_text())
    assert file is not None
    assert (file.is_encrypted, file.kind) == (bool(passphrase), "")


def test_file_damaged_anywhere_is_no_bug(tmp_path: Path) -> None:
    text = keygen(tmp_path / "key", "ed25519").private.read_text()
    for length in range(len(text)):
        parse_private_key(text[:length])
        parse_private_key(text[:length] + "A" + text[length + 1 :])


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 %%%", "\0"])
def test_line_that_is_no_public_key_is_none(line: str) -> None:
    assert parse_public_line(line) is None


@pytest.mark.parametrize("blob", [b"", b"\0\0\0\xff", b"\0\0\0\x01\xff"])
def test_blob_that_is_no_key_has_no_kind(blob: bytes) -> None:
    assert key_kind(blob) == ""
