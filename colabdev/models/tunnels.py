"""A tunnel as it is asked for, as it is remembered, and as it stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from colabdev.errors import (
    AuthNeeded,
    ColabdevError,
    NoCapacity,
    RuntimeUnreachable,
    SshRefused,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a tunnel ends: what SSH connects to in place of the machine's own address."""

    host: str
    port: int
    proxy_command: str | None = None
    """The shell command whose stdin and stdout lead there; None: it is dialled."""


@dataclass(frozen=True, slots=True)
class TunnelUse:
    """A tunnel that a runtime is reached by: what was asked for, and where it ends."""

    kind: str
    """The tunnel's word on the command line."""
    allow_ip: tuple[str, ...] = ()
    """Who may connect: networks, or `auto` for this computer's own address; none: everybody."""
    url: str | None = None
    """The reserved address that it is to have; None: any."""
    endpoint: Endpoint | None = None
    """None until it is known. Whoever learns of another one writes it here."""

    @property
    def wish(self) -> TunnelUse:
        """What was asked for, alone."""
        return replace(self, endpoint=None)


class Remedy(Enum):
    """What a problem with a tunnel takes, and the error that it is."""

    WAITING = RuntimeUnreachable
    """It goes away, and is tried again by itself."""
    LOGIN = AuthNeeded
    """Another token, or something about the account."""
    PLAN = NoCapacity
    """What the account may use is used up, or not in its plan."""
    USER = SshRefused
    """Something else that only the user can do."""


@dataclass(frozen=True, slots=True)
class TunnelProblem:
    """Why a tunnel does not carry anything now, for the user. It holds no secret."""

    message: str
    """A sentence with the cause, and whether waiting helps."""
    hint: str
    remedy: Remedy

    def error(self) -> ColabdevError:
        """What a command that needs the tunnel ends with."""
        kind: type[ColabdevError] = self.remedy.value
        return kind(self.message, hint=self.hint)


@dataclass(frozen=True, slots=True)
class TunnelState:
    """How a tunnel stands on the runtime: up with an endpoint, down with a problem, or starting with
    neither. An endpoint with a problem: it is up, and ends soon or carries less."""

    endpoint: Endpoint | None = None
    problem: TunnelProblem | None = None
    doubt: str = ""
    """What may be wrong when it is up, as far as the runtime knows, and connections by it are closed
    without a word."""
