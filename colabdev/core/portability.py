"""Names that this computer's file systems cannot tell apart, or cannot have at all. Pure."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Mapping

from colabdev.core.windows import is_reserved_name

_FORBIDDEN = '<>:"|?*\\'


def unportable(
    incoming: Iterable[str], existing: Iterable[str], platform: str = sys.platform
) -> Mapping[str, str]:
    """Why each of the incoming paths cannot stand here beside the existing ones, if it cannot."""
    if platform not in ("win32", "darwin"):
        return {}
    known = {_folded(path): path for path in existing}
    reasons = {}
    for path in incoming:
        other = known.setdefault(_folded(path), path)
        if other != path:
            reasons[path] = f"is the same name as {other!r} on this computer"
        elif platform == "win32" and (objection := windows_objection(path)):
            reasons[path] = f"cannot be here: {objection}"
    return reasons


def windows_objection(path: str) -> str:
    """Why Windows cannot have a file at that '/'-separated path; "" when it can."""
    for part in path.split("/"):
        if is_reserved_name(part):
            return f"Windows has a device called {part}"
        if part.endswith((" ", ".")):
            return "Windows has no names that end with a space or a dot"
        if any(letter in _FORBIDDEN or letter < " " for letter in part):
            return f"Windows has no names with any of {_FORBIDDEN}"
    return ""


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
