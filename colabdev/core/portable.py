"""Names that a file can have on one system and not on another."""

from __future__ import annotations

import re

_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])( *\..*)?", re.IGNORECASE)
_FORBIDDEN = '<>:"|?*\\'


def windows_objection(path: str) -> str:
    """Why Windows cannot have a file at that '/'-separated path; "" when it can."""
    for part in path.split("/"):
        if _DEVICES.fullmatch(part.rstrip(" .")):
            return f"Windows has a device called {part}"
        if part.endswith((" ", ".")):
            return "Windows has no names that end with a space or a dot"
        if any(letter in _FORBIDDEN or letter < " " for letter in part):
            return f"Windows has no names with any of {_FORBIDDEN}"
    return ""
