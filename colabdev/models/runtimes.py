"""What is remembered of a runtime, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from colabdev.models.machines import Machine, SshAddress
from colabdev.models.tunnels import TunnelUse


class RuntimeState(StrEnum):
    """What `status` says of a runtime."""

    STARTING = "starting"
    READY = "ready"
    UNREACHABLE = "unreachable"
    LOST = "lost"
    RELEASED = "released"


class Phase(StrEnum):
    """How far this computer got with a runtime, as its state file remembers it.

    STARTING is written before a provider is asked for anything that could be billed, RELEASING
    before it is asked to end it; LOST only after the provider said that the runtime is gone.
    """

    STARTING = "starting"
    UP = "up"
    LOST = "lost"
    RELEASING = "releasing"


@dataclass(frozen=True, slots=True)
class KeeperAddress:
    """Where a runtime's keeper listens on 127.0.0.1, and the key both sides must prove to have."""

    pid: int
    port: int
    key: str = field(repr=False)
    """32 random bytes in hex."""
    version: str


@dataclass(frozen=True, slots=True)
class ProjectLink:
    """A project on this computer that was connected to a runtime, and its work dir there."""

    path: str
    workdir: str
    connected: datetime


LEAVING_PROVIDERS = frozenset({"colab"})
"""Those whose runtimes can give themselves back: their agent does it, whatever tunnel there is."""


@dataclass(frozen=True, slots=True)
class RuntimeRecord:
    """All that is remembered of one runtime; its state file."""

    name: str
    provider: str
    request_id: str
    created: datetime
    phase: Phase = Phase.STARTING
    machine: Machine | None = None
    keeper: KeeperAddress | None = None
    projects: tuple[ProjectLink, ...] = ()
    python: str | None = None
    """The python3 that the user chose for it; the next machine of this name gets it, too."""
    host: str | None = None
    """The user's own host that it is, as they name it; None: its provider makes its machines."""
    tunnel: TunnelUse | None = None
    """The tunnel that reaches it; None: the provider's own way does."""

    @property
    def ssh(self) -> SshAddress | None:
        """Where SSH connects to: the end of its tunnel, else its machine; None while nobody knows."""
        if self.machine is None or self.tunnel is None:
            return self.machine.ssh if self.machine else None
        end = self.tunnel.endpoint
        if end is None:
            return None
        there = self.machine.ssh
        return SshAddress(end.host, end.port, there.user, there.host_key, via=end.proxy_command)

    @property
    def can_leave(self) -> bool:
        """It can give itself back, without a computer."""
        return self.provider in LEAVING_PROVIDERS

    @property
    def workdir(self) -> str | None:
        """The work dir of the project that connected last."""
        if not self.projects:
            return None
        return max(self.projects, key=lambda link: link.connected).workdir

    def with_project(self, link: ProjectLink) -> RuntimeRecord:
        """The record with `link` in place of what it held of the same project."""
        others = tuple(known for known in self.projects if known.path != link.path)
        return replace(self, projects=(*others, link))


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """A runtime as `status` shows it."""

    record: RuntimeRecord
    state: RuntimeState
    detail: str = ""
    """Why it is in that state, when there is something to say."""
