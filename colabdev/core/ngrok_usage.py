"""ngrok's free plan, as far as we can count: what went through colabdev this month, and what may."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from colabdev.core.sizes import format_size
from colabdev.errors import GuardHalted
from colabdev.models import RuntimeRecord

FREE_BYTES = 1_000_000_000
FREE_CONNECTIONS = 5_000
"""A month, for the whole account; what ssh and editors carry by themselves counts, too."""
COUNTED = ("ngrok", "colab-ssh")
"""The tunnels that are ngrok's."""
WARN_SHARE = 0.7
LARGE_BYTES = 100_000_000
"""From here on a transfer is nothing that happens by the way."""

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class MonthUse:
    """What went through colabdev, of all runtimes together, in one month of UTC."""

    month: str
    """2026-11"""
    size_bytes: int = 0
    connections: int = 0

    def plus(self, size_bytes: int, connections: int) -> MonthUse:
        """With more of it."""
        return replace(
            self,
            size_bytes=self.size_bytes + size_bytes,
            connections=self.connections + connections,
        )


def month_of(now: datetime) -> str:
    """ngrok's quotas begin anew on the 1st."""
    return f"{now:%Y-%m}"


def format_use(use: MonthUse) -> str:
    """As a file."""
    document = {
        "schema": _SCHEMA,
        "month": use.month,
        "bytes": use.size_bytes,
        "connections": use.connections,
    }
    return json.dumps(document, indent=1) + "\n"


def parse_use(text: str, month: str) -> MonthUse:
    """What `format_use` wrote of that month; nothing of another one, nor of what makes no sense: it is
    only a count."""
    try:
        document = json.loads(text)
        if document["schema"] == _SCHEMA and document["month"] == month:
            return MonthUse(month, int(document["bytes"]), int(document["connections"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return MonthUse(month)


def describe_use(use: MonthUse) -> str:
    """What was counted, and that it is not all."""
    return (
        f"{format_size(use.size_bytes)} and {use.connections} connections went through colabdev in "
        f"{use.month}; what ssh and editors carry beside it is not counted"
    )


def warn_of_use(use: MonthUse) -> str:
    """What to say from 70 % on; "" before."""
    share = max(use.size_bytes / FREE_BYTES, use.connections / FREE_CONNECTIONS)
    if share < WARN_SHARE:
        return ""
    return (
        f"{share:.0%} of what ngrok's free plan has a month (1 GB, 5,000 connections) is used up: "
        f"{describe_use(use)}"
    )


def check_transfer(runtime: RuntimeRecord, use: Callable[[], MonthUse], size_bytes: int) -> None:
    """`GuardHalted` for a transfer by ngrok that is large beside the free plan, or more than is left."""
    if runtime.tunnel is None or runtime.tunnel.kind not in COUNTED:
        return
    so_far = use()
    left_bytes = max(FREE_BYTES - so_far.size_bytes, 0)
    if size_bytes < LARGE_BYTES and size_bytes <= left_bytes:
        return
    raise GuardHalted(
        f"halted: {format_size(size_bytes)} would go through ngrok, whose free plan has 1 GB a month; "
        f"{describe_use(so_far)}",
        hint="put large files on Drive (in a browser), or another tunnel: colabdev connect --tunnel "
        "colab; --force sends them all the same",
    )
