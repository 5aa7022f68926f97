"""What a private key file says of itself without its passphrase."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from dataclasses import dataclass

_OPENSSH = re.compile(
    r"-----BEGIN OPENSSH PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END OPENSSH PRIVATE KEY-----"
)
_MAGIC = b"openssh-key-v1\0"


@dataclass(frozen=True, slots=True)
class PrivateKeyFile:
    """The outside of a private key."""

    is_encrypted: bool
    public: bytes | None = None
    """The public half in SSH's wire format, where the file has it in the clear."""

    @property
    def kind(self) -> str:
        """`ssh-ed25519`, `sk-ssh-ed25519@openssh.com`, …; "" when the file does not tell."""
        return key_kind(self.public) if self.public else ""


def key_kind(blob: bytes) -> str:
    """The kind of a public key in SSH's wire format; "" of what is none."""
    try:
        return _string(blob, 0)[0].decode("ascii")
    except (ValueError, struct.error):
        return ""


def parse_public_line(line: str) -> bytes | None:
    """The wire format of a `.pub` file's `kind base64 comment`; None of what is none."""
    words = line.split()
    try:
        return base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error):
        return None


def parse_private_key(text: str) -> PrivateKeyFile | None:
    """What the file says; None when it holds no private key."""
    found = _OPENSSH.search(text)
    if found is None:
        if "PRIVATE KEY-----" not in text:
            return None
        return PrivateKeyFile("ENCRYPTED" in text)
    try:
        content = base64.b64decode("".join(found[1].split()), validate=True)
        if not content.startswith(_MAGIC):
            return None
        cipher, offset = _string(content, len(_MAGIC))
        _, offset = _string(content, offset)
        _, offset = _string(content, offset)
        public, _ = _string(content, offset + 4)  # Behind the number of keys, which is 1.
    except (ValueError, struct.error):
        return None
    return PrivateKeyFile(cipher != b"none", public)


def _string(content: bytes, offset: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from(">I", content, offset)
    end = offset + 4 + size
    if end > len(content):
        raise ValueError("it is cut short")
    return content[offset + 4 : end], end
