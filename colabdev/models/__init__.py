"""The values that travel between the layers. No behaviour beyond reading and writing themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, StrEnum

from colabdev.agent import jobdir
from colabdev.agent.shards import Shard
from colabdev.agent.tree import Entry, Problem
from colabdev.models.recovery import Consent, PastAttempt, Resumed
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


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process on a runtime ended: by itself with `code`, or by a signal named without SIG."""

    code: int | None = None
    signal: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what a process wrote, and on which of its two pipes."""

    pipe: str
    """`stdout` or `stderr`."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Completed:
    """A process that ended, with all it wrote."""

    status: ExitStatus
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class AgentHello:
    """What an agent says of itself before anything else."""

    protocol: int
    python: str
    pid: int
    facts: Mapping[str, object] = field(default_factory=dict)


TIMED_OUT_STATUS = 124
"""As of `timeout`, however the command ended then."""


class JobState(StrEnum):
    """How a job stands; the words of `agent/jobdir.py`, which are also those of `ps`."""

    QUEUED = jobdir.QUEUED
    STARTING = jobdir.STARTING
    RUNNING = jobdir.RUNNING
    SUCCEEDED = jobdir.SUCCEEDED
    FAILED = jobdir.FAILED
    STOPPED = jobdir.STOPPED
    TIMED_OUT = jobdir.TIMED_OUT
    LOST = jobdir.LOST
    UNKNOWN = jobdir.UNKNOWN

    @property
    def is_end(self) -> bool:
        """Nothing will come after it."""
        return self.value in jobdir.ENDED_STATES


@dataclass(frozen=True, slots=True)
class JobRecord:
    """All that this computer remembers of one job; its `job.json`. No value of its environment."""

    id: str
    name: str
    runtime: str
    request_id: str
    """The runtime's, so that a later machine of the same name is not taken for it."""
    argv: tuple[str, ...]
    """As typed: SCRIPT and its arguments, or `-m`, MODULE and its arguments."""
    created: datetime
    attempt: int = jobdir.FIRST_ATTEMPT
    state: JobState = JobState.QUEUED
    exit_code: int | None = None
    signal: int | None = None
    started: datetime | None = None
    ended: datetime | None = None
    log_bytes: int | None = None
    """How long the log of a job that has ended is; None before."""
    reason: str | None = None
    """One of `jobdir.REASONS`: why it failed, where its status alone does not tell."""
    gives_back: bool = False
    """Its runtime is given back when it has ended."""
    ours: bool = True
    """This runtime record's; False of one that another computer started on the same host."""
    continues: Consent | None = None
    """That it may go on on a new machine; None: nobody agreed to that, or not any more."""
    past: tuple[PastAttempt, ...] = ()
    """The attempts before this one, oldest first."""
    resumed: Resumed | None = None
    """What this attempt began from; None: from nothing."""

    @property
    def exit_status(self) -> int | None:
        """Its exit status as a shell would have it; None while, and when, nobody knows it."""
        if self.state is JobState.TIMED_OUT:
            return TIMED_OUT_STATUS
        return self.exit_code if self.signal is None else 128 + self.signal


@dataclass(frozen=True, slots=True)
class Begin:
    """Where in a log to begin; of both the later place, of none its first byte."""

    tail: int | None = None
    """With that many last lines."""
    since_s: float | None = None
    """With what was written in the last so many seconds."""

    def __bool__(self) -> bool:
        return self != Begin()


class Absence(Enum):
    """Why a file that sync once sent is not in the project's tree any more."""

    GONE = "gone"
    IGNORED = "ignored"
    """It is here, and now ignored or excluded."""
    UNKNOWN = "unknown"
    """It could not be looked at."""


@dataclass(frozen=True, slots=True)
class SyncedSettings:
    """What a project's settings say of how it is synced."""

    name: str | None = None
    """Its own name; None: the folder's."""
    exclude: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    watch: bool = True


@dataclass(frozen=True, slots=True)
class TreeScan:
    """A project's files as of now, and what cannot be synced: a path and the reason."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    rules: str = ""
    """The document of the rules by which the runtime is to list its side; see `agent.rules`."""
    root: int = 0
    """What tells the project's folder from another one in its place: its inode."""
    folders: tuple[str, ...] = ()
    """The folders of the project that hold nothing at all."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came of unpacking an archive: how many files, and what cannot be here or is not in it."""

    files: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class DataPlan:
    """A folder as a data set: what it is packed into, and what cannot be in it."""

    content: str
    """The id, which changes with any content."""
    files: int
    size_bytes: int
    shards: tuple[Shard, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether a path is synced, and why."""

    path: str
    synced: str
    """`yes`, `no`, or `comes`: an output, which goes one way."""
    reason: str


@dataclass(frozen=True, slots=True)
class KnownSide:
    """What this computer remembers of the last sync of a project with a runtime. Only a cache: when it
    is wrong, the runtime says so."""

    ancestor: str
    """The hash of what both sides had then."""
    tree: str
    """The hash of what the runtime had then."""
    local: str
    """The hash of what was here then."""
    root: int
    """`TreeScan.root` of then."""
    folders: tuple[str, ...] = ()
    """The folders that no file brought along, and that both sides had then."""


@dataclass(frozen=True, slots=True)
class Editor:
    """An editor's command on this computer's PATH."""

    command: str
    version: str
    """"" when it did not say."""
    extensions: frozenset[str] | None
    """Their ids in lower case; None when it did not say."""


@dataclass(frozen=True, slots=True)
class EditorKind:
    """One of the editors that are made from VS Code."""

    command: str
    title: str
    extensions: Sequence[str]
    """Those that bring it to an SSH host; the first is the one to install."""
    server_folder: str
    """Where it puts its server below the home there."""
    mac_app: str
    settings_folder: str
    """Of its user settings, among those of all programs."""
