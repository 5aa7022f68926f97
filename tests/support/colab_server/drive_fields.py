"""Google's `fields`: which parts of an answer a client wants, such as `id,files(id,name)`."""

from __future__ import annotations

import re
from typing import Any

_TOKENS = re.compile(r"[A-Za-z0-9_*]+|[(),/]")
Mask = dict[str, "Mask"]


def select(document: Any, fields: str) -> Any:
    """What of `document` the fields name; a part that is not there is left out."""
    tokens = _TOKENS.findall(fields)
    return _apply(document, _parse(tokens))


def _parse(tokens: list[str]) -> Mask:
    mask: Mask = {}
    while tokens and tokens[0] != ")":
        name = tokens.pop(0)
        if name == ",":
            continue
        below: Mask = {}
        if tokens and tokens[0] == "(":
            tokens.pop(0)
            below = _parse(tokens)
            del tokens[:1]
        elif tokens and tokens[0] == "/":
            tokens.pop(0)
            below = {tokens.pop(0): {}} if tokens else {}
        mask.setdefault(name, {}).update(below)
    return mask


def _apply(value: Any, mask: Mask) -> Any:
    if not mask or "*" in mask:
        return value
    if isinstance(value, list):
        return [_apply(one, mask) for one in value]
    if isinstance(value, dict):
        return {name: _apply(value[name], below) for name, below in mask.items() if name in value}
    return value
