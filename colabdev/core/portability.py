"""Names that this computer's file systems cannot tell apart, or cannot have at all. Pure."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping

_WINDOWS_LETTERS = re.compile(r'[<>:"\\|?*\x00-\x1f]')
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)


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
        elif platform == "win32" and (part := _impossible_part(path)):
            reasons[path] = f"cannot be a name on Windows: {part!r}"
    return reasons


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _impossible_part(path: str) -> str:
    for part in path.split("/"):
        if (
            _WINDOWS_LETTERS.search(part)
            or _WINDOWS_DEVICES.fullmatch(part)
            or part.endswith((".", " "))
        ):
            return part
    return ""
