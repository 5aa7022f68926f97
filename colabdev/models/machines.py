"""A machine as it is wished for, and as its provider describes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


@dataclass(frozen=True, slots=True)
class UserLogin:
    """How the user gets into a host of their own: what their OpenSSH configuration says of it,
    resolved when `connect` was typed. Paths are absolute paths on this computer."""

    host: str
    """What stood behind `--host`."""
    identity_files: tuple[str, ...] = ()
    identities_only: bool = False
    """Of the agent's keys only those that `identity_files` name may be offered."""
    identity_agent: str = "SSH_AUTH_SOCK"
    """The agent's socket, `none`, or the variable that names it: `SSH_AUTH_SOCK`, `$NAME`."""
    proxy_command: str | None = None
    """The shell command whose stdin and stdout lead to the host, nothing in it left to expand; None:
    the host is dialled."""
    unused: tuple[str, ...] = ()
    """The options by which OpenSSH, and only OpenSSH, might get in, too."""


@dataclass(frozen=True, slots=True)
class ColabTunnel:
    """Colab's own SSH over a websocket, which admits one connection for each runtime. Everybody else
    comes in through that one, to a server that listens only on the runtime itself."""

    endpoint: str
    """Colab's name of the runtime."""
    host_keys: tuple[str, ...]
    """The keys, one of which the SSH server behind the websocket must show; as `SshAddress.host_key`."""
    keep_until: datetime
    """When it is not kept alive any more, whatever happens."""
    gives_back: bool = False
    """Then it is given back, too; else Colab takes it when it likes."""
    max_units: float | None = None
    """What it may cost while nobody uses it; None: no limit."""


@dataclass(frozen=True, slots=True)
class SshAddress:
    """Where a runtime's SSH server answers, as whom to log in, and the key it must show."""

    host: str
    port: int
    user: str
    host_key: str
    """The pinned public key, one OpenSSH line without comment: `ssh-ed25519 AAAA…`."""
    login: UserLogin | None = None
    """None: it is dialled, and colabdev's own key opens it."""
    tunnel: ColabTunnel | None = None
    """What the keeper's connection goes through; then host and port are as seen from the runtime."""
    via: str | None = None
    """The shell command that leads there, where a tunnel needs one."""

    @property
    def proxy_command(self) -> str | None:
        """What leads there instead of dialling; see `UserLogin`."""
        return self.login.proxy_command if self.login is not None else self.via


@dataclass(frozen=True, slots=True)
class Machine:
    """A runtime as its provider describes it. Paths are absolute paths on the runtime."""

    ssh: SshAddress
    content_dir: str
    drive_dir: str | None
    since: datetime
    accelerator: str | None = None
    request_id: str = ""
    """The idempotency key it was started with, where the provider remembers it."""


@dataclass(frozen=True, slots=True)
class HardwareWish:
    """What a runtime that is rented is to be."""

    accelerators: tuple[str, ...] = ()
    """In this order; what comes must be one of them. `none` is a machine without. Empty: `preferred`."""
    preferred: tuple[str, ...] = ()
    """Likewise, for a machine that is not there yet. Empty: the provider's usual one."""
    high_memory: bool = False
    wait: bool = False
    """When there is none now, ask again until there is."""
    adopt: str | None = None
    """The provider's own name of a runtime that exists already, to be used instead of a new one."""
    ttl_s: int | None = None
    """How long it lives at most; None: as long as the provider lets it."""
    max_units: float | None = None
    """What it may cost while nobody uses it."""


NO_WISH = HardwareWish()


class DriveWish(Enum):
    """What is done about a runtime whose Drive its user has to allow, or that cannot be mounted."""

    ASK = "ask"
    """The user is asked; without an answer it is of use all the same."""
    WANT = "want"
    """Nobody is there to be asked, and it is of use all the same."""
    NEED = "need"
    """Nobody is there to be asked, and it is of none: its start fails, and may be asked for again."""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What a provider needs to start a runtime.

    `request_id` is the idempotency key: asked again with the same name and id, a provider answers
    with the machine of the first time instead of starting a second one.
    """

    name: str
    request_id: str
    public_key: str
    """The one public key that may log in, as an `authorized_keys` line."""
    python: str | None = None
    """The python3 of a runtime that is made of this computer; None: the provider finds one."""
    host: str | None = None
    """The host of the user's own that is to be the runtime, as they name it."""
    hardware: HardwareWish = NO_WISH
    drive: DriveWish = DriveWish.ASK
