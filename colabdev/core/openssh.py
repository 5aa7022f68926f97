"""OpenSSH's versions."""

from __future__ import annotations

import re

OLDEST = (7, 6)
"""The oldest that knows every option of our host entries."""

_VERSION = re.compile(r"OpenSSH_(?:for_Windows_)?(\d+)\.(\d+)")


def parse_version(said: str) -> tuple[int, int] | None:
    """The version in what `ssh -V` says; None when it is another program."""
    found = _VERSION.search(said)
    return (int(found[1]), int(found[2])) if found else None
