"""The code that a notebook's cell prints, checked: a runtime is hostile until it is."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from colabdev.agent.connection_code import parse_code
from colabdev.core.bootstrap import checked_host_key
from colabdev.core.cloudflared import checked_host
from colabdev.core.tunnels import CLOUDFLARED, TUNNELS
from colabdev.errors import UsageError

NO_CODE_HINT = (
    "colabdev notebook prints the cell; then: colabdev connect --provider notebook --code …"
)
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)


@dataclass(frozen=True, slots=True)
class Told:
    """What a code tells of its machine."""

    code: str
    tunnel: str
    host: str
    port: int
    host_key: str
    machine: str
    """Another machine's is another."""
    since: datetime
    expires: datetime
    """From then on the machine cannot be there any more."""
    drive: bool

    def is_over(self, now: datetime) -> bool:
        """Whether the machine is too old to be there."""
        return now >= self.expires


def told_of(code: str) -> Told:
    """What the code tells; ValueError says what is wrong with it."""
    found = parse_code(code)
    if found["tunnel"] not in TUNNELS["notebook"]:
        raise ValueError(f"it names a tunnel {found['tunnel']!r}")
    if not 0 < found["port"] < 65536:
        raise ValueError(f"{found['port']!r} is not a port")
    try:
        since, expires = (datetime.fromtimestamp(found[key], UTC) for key in ("since", "expires"))
    except (OverflowError, OSError) as exc:
        raise ValueError("its times make no sense") from exc
    return Told(
        code="".join(code.split()),
        tunnel=found["tunnel"],
        host=_host(found["tunnel"], found["host"]),
        port=found["port"],
        host_key=checked_host_key(found["host_key"]),
        machine=found["machine"],
        since=since,
        expires=expires,
        drive=found["drive"],
    )


def check_code(code: str, now: datetime) -> Told:
    """What a code tells that was typed; `UsageError` when it is none, or of a machine that went."""
    try:
        told = told_of(code)
    except ValueError as exc:
        raise UsageError(
            f"that is not the code of a notebook: {exc}",
            hint="copy all of what the cell printed, from colabdev1. to its end",
        ) from None
    if told.is_over(now):
        raise UsageError(
            "that code is older than a machine of Colab's gets, so its machine is gone",
            hint="run the cell again, and copy what it prints then",
        )
    return told


def _host(tunnel: str, host: str) -> str:
    if tunnel == CLOUDFLARED:
        return checked_host(host)
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            raise ValueError(f"{host!r} is not the name of a host") from None
        return host
