"""What a notebook's cell tells the user's computer: where its machine answers, and nothing secret.

One word to copy: `colabdev1.` and, in base64, a JSON object and its checksum.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Any, Dict

PREFIX = "colabdev1."
_CHECKSUM_BYTES = 4
_FIELDS = {
    "tunnel": str,  # What leads there: ngrok, cloudflared, colab-ssh.
    "host": str,
    "port": int,
    "host_key": str,
    "machine": str,  # Another machine has another one.
    "since": int,  # Seconds of the epoch, as `expires`.
    "expires": int,
    "drive": bool,  # Whether Drive is mounted.
}


def format_code(told: Dict[str, Any]) -> str:
    """The word to copy."""
    document = json.dumps({name: told[name] for name in _FIELDS}).encode("ascii")
    checksum = zlib.crc32(document).to_bytes(_CHECKSUM_BYTES, "big")
    return PREFIX + base64.urlsafe_b64encode(document + checksum).decode("ascii").rstrip("=")


def parse_code(text: str) -> Dict[str, Any]:
    """What `format_code` was told, of a word that may have been wrapped; ValueError for anything else.
    Of the values only the kinds are checked."""
    word = "".join(text.split())
    if not word.startswith(PREFIX):
        raise ValueError("it does not begin with %s" % PREFIX)
    coded = word[len(PREFIX) :]
    try:
        raw = base64.b64decode((coded + "=" * (-len(coded) % 4)).encode("ascii"), b"-_", True)
    except (UnicodeError, binascii.Error):
        raw = b""
    document, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    if not document or zlib.crc32(document).to_bytes(_CHECKSUM_BYTES, "big") != checksum:
        raise ValueError("a piece of it is missing or was changed")
    told = json.loads(document)
    if not isinstance(told, dict):
        raise ValueError("it is no object")
    for name, kind in _FIELDS.items():
        if type(told.get(name)) is not kind:
            raise ValueError("its %s makes no sense" % name)
    return {name: told[name] for name in _FIELDS}
