"""Secrets out of text that is kept or shown."""

from __future__ import annotations

import re

_SECRETS = (
    re.compile(r"\b[0-9a-f]{64}\b"),  # A keeper's key.
    re.compile(r"(?i)\bbearer\s+\S+"),
    re.compile(r"\bya29\.\S+"),  # A Google access token.
    re.compile(r"\b1//[\w-]{20,}"),  # A Google refresh token.
    re.compile(r"\b2[A-Za-z0-9]{26}_[A-Za-z0-9]{21}\b"),  # An ngrok authtoken.
    re.compile(
        r"(?i)\b[\w-]*(?:token|secret|password|passwd|api_?key)[\w-]*[\"']?\s*[=:]\s*"
        r"(?:\"[^\"]*\"|'[^']*'|\S+)"
    ),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL),
)


def redact(text: str) -> str:
    """`text` with everything that looks like a secret replaced by `[redacted]`."""
    for pattern in _SECRETS:
        text = pattern.sub("[redacted]", text)
    return text
