"""What `forward` is asked for: a port here, and where it leads on the runtime."""

from __future__ import annotations

import re
from dataclasses import dataclass

from colabdev.errors import UsageError

_SPEC = re.compile(r"(?:([0-9]{1,5}):)?(?:(\[[^\[\]]+\]|[^:\[\]\s]+):)?([0-9]{1,5})")
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Forward:
    """`local_port` of this computer leads to host:port as seen from the runtime."""

    local_port: int
    """0 for any free one."""
    host: str
    port: int


def parse_forward(word: str) -> Forward:
    """`PORT`, `LOCAL:PORT` or `LOCAL:HOST:PORT`, as for `ssh -L`; an IPv6 address in brackets."""
    found = _SPEC.fullmatch(word)
    if found is None or (found[1] is None and found[2] is not None):
        raise UsageError(
            f"cannot forward {word!r}: it is neither PORT nor LOCAL:PORT nor LOCAL:HOST:PORT",
            hint="colabdev forward 6006 8888:localhost:8888",
        )
    port = int(found[3])
    local_port = port if found[1] is None else int(found[1])
    if not 0 < port <= _LAST_PORT or local_port > _LAST_PORT:
        raise UsageError(
            f"cannot forward {word!r}: ports go from 1 to {_LAST_PORT}",
            hint="colabdev forward 6006",
        )
    return Forward(local_port, (found[2] or "localhost").strip("[]"), port)
