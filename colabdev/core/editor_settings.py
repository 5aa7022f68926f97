"""An editor's user settings: JSON with comments, of which every byte but ours stays."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

PLATFORMS = "remote.SSH.remotePlatform"

_TOKEN = re.compile(
    r'(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<word>"(?:[^"\\\n]|\\.)*"|[^\s{}\[\]:,"/]+)|(?P<mark>[{}\[\]:,])',
    re.DOTALL,
)


def parse_settings(text: str) -> Mapping[str, Any] | None:
    """The settings without their comments; None when they are no such thing."""
    plain = "".join(found[0] for found in _tokens(text))
    # A comma behind the last member is allowed there; one in a string stands before no bracket of ours.
    plain = re.sub(r'("(?:[^"\\]|\\.)*")|,(?=[}\]])', lambda found: found[1] or "", plain)
    try:
        settings = json.loads(plain or "{}")
    except ValueError:
        return None
    return settings if isinstance(settings, dict) else None


def has_platform(text: str, alias: str) -> bool:
    """The editor knows already what the host `alias` runs, or nobody can tell."""
    settings = parse_settings(text)
    if settings is None:
        return False
    platforms = settings.get(PLATFORMS)
    return isinstance(platforms, dict) and alias in platforms


def with_platform(text: str, alias: str) -> str | None:
    """The settings with the host `alias` as a Linux one; None when that cannot be put in safely."""
    before = parse_settings(text)
    if before is None:
        return None
    platforms = before.get(PLATFORMS, {})
    if not isinstance(platforms, dict):
        return None
    if not text.strip():
        text = "{}\n"
    entry = f"{json.dumps(alias)}: " + '"linux"'
    if PLATFORMS in before:
        at = _value_of(text, PLATFORMS)
        after = None if at is None else _insert(text, at, entry, is_empty=not platforms)
    else:
        after = _insert(
            text,
            text.index("{"),
            f'\n    "{PLATFORMS}": {{{entry}}}',
            is_empty=not before,
        )
    wanted = {**before, PLATFORMS: {**platforms, alias: "linux"}}
    # Whatever odd text it is, only that it means the same and ours lets us write it.
    return after if after is not None and parse_settings(after) == wanted else None


def _insert(text: str, brace: int, member: str, *, is_empty: bool) -> str:
    """The member as the first of the object whose brace stands there."""
    end = ("\n" if member.startswith("\n") else "") if is_empty else ","
    return f"{text[: brace + 1]}{member}{end}{text[brace + 1 :]}"


def _value_of(text: str, key: str) -> int | None:
    """Where the object that is the value of that key of the outermost one begins."""
    depth, last, is_key = 0, "", False
    for found in _tokens(text):
        token = found[0]
        if token == "{" and depth == 1 and is_key:
            return found.start()
        is_key = token == ":" and depth == 1 and last == json.dumps(key)
        depth += (token in "{[") - (token in "}]")
        last = token
    return None


def _tokens(text: str) -> Iterator[re.Match[str]]:
    return (found for found in _TOKEN.finditer(text) if found["comment"] is None)
