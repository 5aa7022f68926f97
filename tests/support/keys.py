"""SSH keys for tests, made in the process: no ssh-keygen needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Keypair:
    """An ed25519 key: the file of its private half, and its public half as one OpenSSH line."""

    private: Path
    public: str


def make_keypair(directory: Path, name: str = "id_ed25519") -> Keypair:
    """A new key in `directory`, the private half 0600 and unencrypted, `name`.pub beside it."""
    key = Ed25519PrivateKey.generate()
    private = directory / name
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    private.with_name(name + ".pub").write_bytes(public + b"\n")
    return Keypair(private, public.decode())
