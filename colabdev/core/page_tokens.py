"""The secrets that web pages on a runtime ask for."""

from __future__ import annotations

import hashlib
import hmac


def make_token(key: bytes, request_id: str, port: int) -> str:
    """The secret of the page at that port of that machine: the same each time, so that it need not be
    kept anywhere, and nobody's who has not this computer's key."""
    return hmac.new(key, f"page {request_id} {port}".encode(), hashlib.sha256).hexdigest()[:48]
