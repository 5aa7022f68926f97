"""What the services need from the outside world, as contracts.

Implementations live in `adapters`, `providers` and `tunnels`; `tests/contract` runs one suite over
every implementation of a port.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from colabdev.agent.blocks import Recipe, Signature
from colabdev.agent.changes import Change, Frame
from colabdev.agent.manifest import Manifest
from colabdev.agent.placing import Failure
from colabdev.agent.shards import Shard
from colabdev.agent.tree import Entry
from colabdev.errors import ColabdevError
from colabdev.models import (
    Absence,
    AgentHello,
    Begin,
    DataPlan,
    Editor,
    EditorKind,
    ExitStatus,
    Explanation,
    JobRecord,
    KnownSide,
    Machine,
    Output,
    RuntimeRecord,
    StartRequest,
    TreeScan,
    Unpacked,
)
from colabdev.ports.secrets import SecretHolder

Progress = Callable[[str], None]
"""Told of each step as it begins, in words for the user; prints nothing itself."""


Meter = Callable[[str, int, int], None]
"""Told how far a transfer is: `sent` or `received`, bytes so far, bytes in all."""


class RemoteProcess(Protocol):
    """A process started through a `Transport`. One thread writes, one thread reads.

    When the way to the runtime is cut, every call raises `RuntimeUnreachable`; the end of the output
    is only ever reported when the process really closed it.
    """

    def write(self, data: bytes) -> None:
        """Send all of `data` to stdin; blocks while the process does not read."""

    def close_stdin(self) -> None:
        """End stdin. Harmless when done already."""

    def read(self, timeout_s: float | None = None) -> Output | None:
        """The next piece of output of either pipe; None at the end of both. TimeoutError when
        `timeout_s` passes first."""

    def wait(self, timeout_s: float | None = None) -> ExitStatus:
        """How the process ended; its output must have been read. TimeoutError after `timeout_s`."""

    def close(self) -> None:
        """Let go of the process. It is not killed: jobs are stopped by asking, never by hanging up."""


class Transport(Protocol):
    """A way to start processes on one machine."""

    def open(self, argv: Sequence[str]) -> RemoteProcess:
        """Start `argv` in the login directory, argument for argument as given (any bytes but NUL,
        `os.fsdecode`d). A command that does not exist ends with 127, as from a shell."""


class Provider(Protocol):
    """Where runtimes come from.

    A failure to ask raises; it never looks like an answer.
    """

    @property
    def name(self) -> str:
        """The provider's word on the command line."""

    def start(self, request: StartRequest, progress: Progress) -> Machine:
        """Start a runtime, or return the one this very request started before."""

    def find(self, name: str) -> Machine | None:
        """The running runtime of that name; None only when it is known to be gone."""

    def names(self) -> Sequence[str]:
        """The names of all runtimes that run now."""

    def release(self, name: str) -> None:
        """End the runtime and delete its disk. Returns only when both are proved; `ReleaseUnproven`
        otherwise. Harmless when it is gone already."""


class MortalProvider(Provider, Protocol):
    """A provider whose runtimes can be made to die as a VM dies."""

    def kill(self, name: str) -> bool:
        """End the runtime without a word to what runs in it, and delete its disk; whether there was
        one. `ReleaseUnproven` when something of it does not die."""


class RuntimeStore(Protocol):
    """The state files, one for each runtime."""

    def names(self) -> Sequence[str]:
        """The names that have a state file, readable or not, sorted."""

    def load(self, name: str) -> RuntimeRecord | None:
        """The record, None when there is none; `StateUnreadable` when there is and it makes no sense."""

    def save(self, record: RuntimeRecord) -> None:
        """Write the record, atomically and durably."""

    def update(
        self, name: str, change: Callable[[RuntimeRecord], RuntimeRecord]
    ) -> RuntimeRecord | None:
        """Read, change and write under the record's lock; None when there is no record."""

    def delete(self, name: str) -> None:
        """Forget the runtime. Harmless when it is forgotten already."""

    def salvage(self, name: str) -> Mapping[str, str]:
        """What can still be read of an unreadable state file: `name`, `provider`, `phase`, or less."""

    def replace_unreadable(self, name: str, record: RuntimeRecord | None) -> str:
        """Put `record`, or nothing, in the place of an unreadable state file; returns where the old
        file is kept."""

    def leftovers(self) -> Sequence[Path]:
        """Files that a command which was killed did not finish, and nobody writes any more."""

    def operation(self, name: str) -> AbstractContextManager[None]:
        """Held while one command changes what the runtime is (connect, down, repair); the next waits."""


class AgentStream(Protocol):
    """A running agent on the runtime, ours alone. One request at a time."""

    @property
    def hello(self) -> AgentHello:
        """What the agent said of itself."""

    def request(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> tuple[Mapping[str, object], bytes]:
        """Ask and wait for the answer: its values and its body. One round trip."""

    def ask(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> None:
        """Ask, and wait for nothing. Answers come in the order of the questions."""

    def answer(self, kind: str) -> tuple[Mapping[str, object], bytes]:
        """The next answer, which is to a question of that kind."""

    def stream(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> Iterator[tuple[Mapping[str, object], bytes]]:
        """Ask, and give each frame of the answer as it comes. The frames say which is the last; a
        reader that has enough before that closes the stream."""

    def send(self, header: Mapping[str, object], body: bytes = b"") -> None:
        """Add a frame to a request whose answer is being streamed; from another thread, too."""

    def upload(
        self, kind: str, arguments: Mapping[str, object], frames: Iterable[Frame]
    ) -> tuple[Mapping[str, object], bytes]:
        """Ask, send the frames after it, and wait for the answer. An agent that answers before their
        end is sent no more, and must be let go of then."""

    @property
    def wire_bytes(self) -> int:
        """How much was sent and received so far."""

    def close(self) -> None:
        """Let the agent end."""


class ByteStream(Protocol):
    """Bytes both ways, each direction until its own end, as TCP does. OSError when it breaks."""

    def send(self, data: bytes) -> None:
        """All of it."""

    def read_some(self, count: int) -> bytes:
        """What has arrived, at most `count` bytes; waits for something, b"" at the end."""

    def end_writing(self) -> None:
        """No more is sent; the other direction goes on."""

    def close(self) -> None:
        """End both directions; whoever reads in another thread wakes."""


class LocalPort(Protocol):
    """A port of this computer that is ours."""

    @property
    def port(self) -> int:
        """Its number."""

    def serve(
        self, open_stream: Callable[[], ByteStream], failed: Callable[[ColabdevError], None]
    ) -> None:
        """Join each client with a stream of its own, in threads, until `close`; a client whose stream
        cannot be opened is hung up on, and `failed` told why."""

    def close(self) -> None:
        """Take no more clients."""


class Keeper(Transport, SecretHolder, Protocol):
    """A runtime's keeper, connected and authenticated."""

    def link(self) -> Mapping[str, object]:
        """How the keeper's connection stands: `state` (connecting, ready, unreachable, lost or
        refused), `reason` when there is one (an error as JSON), `since`."""

    def wait_ready(self, timeout_s: float) -> AgentHello:
        """Wait until the runtime answers; raises what keeps it from doing so."""

    def agent(self) -> AgentStream:
        """An agent stream, handed out from the running spare."""

    def open_tcp(self, host: str, port: int) -> ByteStream:
        """A stream to host:port as seen from the runtime; waits a while for a connection that is cut.
        `ColabdevError` when nobody takes it there."""

    def quit(self) -> None:
        """End the keeper; returns when it is gone."""


class Keepers(Protocol):
    """The keepers of this computer."""

    def find(self, record: RuntimeRecord) -> Keeper | None:
        """The running keeper of this version; None when none answers."""

    def ensure(self, name: str) -> Keeper:
        """The runtime's keeper, started now when none of this version answers."""

    def agent(self, name: str) -> AgentStream:
        """An agent on the runtime, from the keeper that `ensure` gives; see `Keeper.agent`."""

    def stop(self, record: RuntimeRecord) -> None:
        """End the runtime's keeper, also one that does not answer; returns when it is gone."""


class JobStore(Protocol):
    """This computer's copies of jobs: what is known of each, and its log as far as it came here."""

    def ids(self) -> Sequence[str]:
        """The jobs that have a record, readable or not, sorted."""

    def version(self) -> object:
        """Another one after a job was written down or forgotten, or was given another attempt."""

    def load(self, job_id: str) -> JobRecord | None:
        """The record, None when there is none; `StateUnreadable` when there is and it makes no sense."""

    def create(self, job: JobRecord) -> bool:
        """Write the record of a new job; False when the id is taken."""

    def save(self, job: JobRecord) -> None:
        """Write the record, atomically and durably."""

    def update(self, job_id: str, change: Callable[[JobRecord], JobRecord]) -> JobRecord | None:
        """Read, change and write under the record's lock; None when there is no record."""

    def delete(self, job_id: str) -> None:
        """Forget the job and its log. Harmless when it is forgotten already."""

    def append(self, job_id: str, attempt: int, offset: int, data: bytes) -> None:
        """Add what the log has from `offset` on. What is there already is not added again, and
        nothing is added behind a gap: the copy is a prefix of the log, whoever else writes it."""

    def log_size(self, job_id: str, attempt: int) -> int:
        """How much of the log is here; so also where to go on."""

    def read_log(self, job_id: str, attempt: int, offset: int) -> bytes:
        """The next piece of the copy from `offset` on; b"" at its end."""

    def begin_of(self, job_id: str, attempt: int, begin: Begin) -> int:
        """Where in the copy that is; without its records `since_s` means all of it."""

    def save_records(self, job_id: str, texts: Mapping[str, str]) -> None:
        """Keep what came home of the job beside its log; of other names than `RECORDS` nothing."""

    def has_records(self, job_id: str) -> bool:
        """Whether they are here; they come when the job has ended."""

    def record_lines(self, job_id: str, name: str) -> Sequence[str]:
        """The lines of one of them, none when it is not here."""


class Steps(Protocol):
    """Changes one after the other, each with its content; `agent.changes.Unpacker` is one."""

    def changes(self) -> Iterator[Change]:
        """Each change in turn; content of it that nobody took is skipped."""

    def content(self) -> Iterator[memoryview]:
        """The content of the change at hand, in pieces."""


class TreeWatch(Protocol):
    """Notices what changes in a project on this computer."""

    @property
    def because(self) -> str:
        """Why it can only look now and then; "" when the system tells of changes."""

    def wait(self, timeout_s: float) -> Collection[str]:
        """The paths that changed, once all that changes in one go did; nothing after `timeout_s`. "" is
        anything, and a path that ends with '/' a whole folder."""

    def close(self) -> None:
        """Notice nothing more."""


class LocalTree(Protocol):
    """A project's files on this computer."""

    def scan(self) -> TreeScan:
        """Look at all of them now. What cannot be read is a problem, never a file that is not there."""

    def rescan(
        self, paths: Collection[str], folders: Collection[str]
    ) -> Mapping[str, Entry | None] | None:
        """What a scan would say now of these paths, None for each where nothing is. None in place of
        them all when only a scan tells; `folders` are kept in step by themselves, so one of them that
        went is such a case. What came or went elsewhere since the last scan is not looked for."""

    def rules_key(self) -> str:
        """The key of the rules of the last scan, whoever made it; "" when nobody knows."""

    def watch(self) -> TreeWatch:
        """Notice changes from now on, by the rules of the last scan."""

    def wait_for_git(self) -> None:
        """Wait while git changes the files; not for long, should it have left its lock behind."""

    def absences(self, paths: Iterable[str]) -> Mapping[str, Absence]:
        """Why each of these, which the last scan did not find, is no part of the project."""

    def read(self, change: Change) -> Iterator[bytes]:
        """The content that the change brings, in pieces; OSError when it cannot be read any more."""

    def explain(self, path: str) -> Explanation:
        """Whether a path is synced, and which rule decided."""

    def look(self, path: str) -> str:
        """The fingerprint of what stands at a path now, in the project or not."""

    def folder(self, path: str) -> str:
        """Whether a folder stands at a path, and something in it; see `agent.folders`."""

    def signature(self, path: str, digest: str) -> Signature | None:
        """The blocks of the version with this digest, of the file that stands there now or of one that
        was remembered; None when nobody knows."""

    def recipe(self, entry: Entry, old: Signature) -> Recipe:
        """How the file here is made of an older version; () when it is hardly made of it."""

    def remember_blocks(self, digests: Mapping[str, str]) -> None:
        """Remember the blocks of these large files, path by digest, and forget all others."""

    def staged(self) -> Mapping[str, int]:
        """How many bytes are here already of which contents, by digest, left by a sync that was cut."""

    def write(self, steps: Steps) -> Sequence[Failure]:
        """Make the changes here; those that cannot be made are values. `ColabdevError` when no more can
        be written, or another sync of the project is at it; what was done until then stays."""

    def tidy(self) -> None:
        """Remove what a sync that was killed left here, but for what the next one goes on with."""


class SyncMemory(Protocol):
    """What is remembered of each runtime's side of a project. Only a cache: it may forget."""

    def load(self, runtime: str) -> KnownSide | None:
        """What is known of the last sync with this machine."""

    def ancestor(self, runtime: str, side: KnownSide) -> Mapping[str, str] | None:
        """The fingerprints that both sides had then, by path; None when they are damaged, or another
        sync remembers another side by now."""

    def save(self, runtime: str, known: KnownSide, ancestor: Mapping[str, str]) -> None:
        """Remember this from now on, if that can be written."""


@dataclass(frozen=True, slots=True)
class SyncedProject:
    """The project that is to be synced, and the ways to it."""

    path: str
    name: str
    tree: LocalTree
    memory: SyncMemory
    max_bytes: int


class BrokenArchive(Exception):
    """It does not prove itself; the text says how one sees that."""


class RestoreTarget(Protocol):
    """A folder in the making on this computer, under another name until it is whole."""

    def receive(self, pieces: Iterable[bytes]) -> None:
        """Take an archive, in place of one that was taken before."""

    def unpack(self, tree_hash: str) -> Unpacked:
        """Unpack what was received, proving it; `BrokenArchive` when it is not that tree's."""

    def place(self) -> None:
        """Give the folder its name."""


class LocalData(Protocol):
    """A folder of this computer that is to be a data set. Memory does not grow with its files."""

    def plan(self, progress: Progress) -> DataPlan:
        """Read all of it once, and say what it is packed into. What cannot be packed is a problem."""

    def read(self, shard: Shard, offset: int) -> Iterator[bytes]:
        """That shard of the plan from `offset` on, in pieces; other bytes when the files changed."""


class BrokenCopy(Exception):
    """A checkpoint here is not what its manifest says; the text says how one sees that."""


class ComingCheckpoint(Protocol):
    """A copy of a checkpoint in the making. A cut leaves what came of it, which is gone on with."""

    def size_of(self, path: str) -> int:
        """How much of that file is here."""

    def append(self, path: str, offset: int, data: bytes) -> None:
        """Add what the file has from `offset` on."""

    def place(self) -> Path:
        """Verify every hash and give the copy its name; returns where it is. `BrokenCopy` when it is
        not what its manifest says, and then nothing of it stays."""


class DriveTokens(Protocol):
    """What lets a runtime into the user's Drive."""

    def mint(self, *, with_refresh: bool) -> Mapping[str, object]:
        """The arguments of `checkpoint.token`: a token for an hour, good only for files on Drive that
        our OAuth client made; `with_refresh` also what others can be got with. `AuthNeeded` says why
        there is none, `RuntimeUnreachable` that Google could not be asked."""


class CheckpointCopies(Protocol):
    """The verified copies of checkpoints on this computer. `StateNotWritable` when there is no room."""

    def jobs(self) -> Sequence[str]:
        """The jobs of which there is one, sorted."""

    def names(self, job: str) -> Sequence[str]:
        """The names of the copies that are whole."""

    def load(self, job: str, name: str) -> Manifest | None:
        """What the copy's manifest says; None without a copy."""

    def path(self, job: str, name: str) -> Path:
        """Where the copy is, or would be."""

    def arrived(self, job: str, name: str) -> float:
        """When the copy was made; seconds since the epoch."""

    def coming(self, job: str) -> AbstractContextManager[None]:
        """Held while one process brings a checkpoint of that job here; others wait."""

    def begin(self, job: str, name: str, content: bytes) -> ComingCheckpoint:
        """In `coming`: take that checkpoint, whose manifest is `content`, or go on with it.
        `ProtocolError` when that is no manifest, or names files that this computer cannot have."""

    def read(self, job: str, name: str, path: str, offset: int) -> Iterator[bytes]:
        """That file of the copy from `offset` on, in pieces; `ColabdevError` when it cannot be read."""

    def manifest(self, job: str, name: str) -> bytes:
        """The copy's manifest as it came."""

    def damage(self, job: str, name: str) -> str | None:
        """What is wrong with the copy, in words; None when every hash verifies."""

    def export(self, job: str, name: str, target: Path) -> None:
        """Copy the copy to `target`, which is missing or an empty folder."""

    def delete(self, job: str, name: str) -> None:
        """Forget the copy. Harmless when there is none."""


class Templates(Protocol):
    """The projects that `init` starts from."""

    def names(self) -> Sequence[str]:
        """The templates there are, sorted."""

    def copy(self, name: str, target: Path) -> Sequence[str]:
        """Put the template at `target`, missing or an empty directory, whole or not at all; returns
        its files, relative."""

    def add(self, name: str, file: str, target: Path) -> None:
        """Put one file of the template into `target`, made if missing, where no such file is."""


class HostEntries(Protocol):
    """Our part of the OpenSSH configuration: one `Host` stanza and one pinned key per runtime."""

    def public_key(self) -> str:
        """This computer's public key, made at first use, as an `authorized_keys` line."""

    def taken_by(self, name: str) -> str:
        """Where the user's own configuration has a `Host` of that very name; "" when the name is free,
        or ours already."""

    def write(self, record: RuntimeRecord) -> None:
        """Make our own configuration reach the runtime; the record must have a machine."""

    def include(self) -> str:
        """Make the user's main configuration include ours. Returns "", or, when that file cannot be
        changed, a sentence with the line that the user may add to it."""

    def remove(self, name: str) -> None:
        """Take the stanza and the pinned key out. Harmless when they are out already."""

    def exclude(self) -> str:
        """Take the line that `include` adds out again. Returns "", or, when that file cannot be changed,
        a sentence with the line."""

    def names(self) -> Sequence[str]:
        """The names that have a stanza, sorted; of runtimes that went, too."""

    def command(self, name: str, arguments: Sequence[str]) -> Sequence[str]:
        """The argument list of the system ssh that reaches the runtime through our stanza."""

    def short_command(self, name: str) -> Sequence[str]:
        """The shortest argument list that does: plain `ssh ALIAS` if ssh says that our stanza is what
        it takes then."""


class EntryFiles(Protocol):
    """The files of our part of the OpenSSH configuration, to be looked at."""

    @property
    def main_file(self) -> Path:
        """The user's main configuration."""

    @property
    def private_key_file(self) -> Path:
        """This computer's key; it may not be there yet."""

    @property
    def is_plain(self) -> bool:
        """Whether ssh and editors read the main file by themselves."""

    def paths(self) -> Sequence[Path]:
        """All files and directories that ssh reads, there or not."""

    def include_line(self) -> str:
        """The line that the main file needs in front of everything else."""

    def is_included(self) -> bool:
        """Whether it has that line; OSError when it cannot be read."""

    def stanza(self, name: str) -> str:
        """Our entry of that name, as ssh reads it; "" without one."""

    def tighten(self) -> None:
        """Take from everybody else what ssh does not want them to have."""

    def is_taken(self, name: str) -> bool:
        """Whether ssh, reading all of the user's configuration, does what our stanza says."""


class EditorPrograms(Protocol):
    """The editors' commands on this computer."""

    def has(self, kind: EditorKind) -> bool:
        """Whether it is installed, where it would be found."""

    def extensions(self, kind: EditorKind) -> frozenset[str] | None:
        """The ids of its extensions in lower case; None when it does not say."""

    def settings_file(self, kind: EditorKind) -> Path | None:
        """Its user's settings, there or not; None where we do not know where they are."""

    def change_settings(self, path: Path, change: Callable[[str], str | None]) -> bool:
        """Rewrite the settings, keeping the old ones beside them once; False when `change` gives None,
        or when it is not for us to write them."""

    def settings(self, path: Path) -> str:
        """What is in the settings, "" when they are not there or cannot be read."""

    def open(self, kind: EditorKind, arguments: Sequence[str]) -> None:
        """Start it, and leave it alone once it runs; `ColabdevError` when it does not start."""


class ReportFiles(Protocol):
    """What a bug report is made of."""

    def texts(self) -> Iterator[tuple[str, str]]:
        """Name and text of each file that may go into it, secrets and all."""

    def secret_lines(self) -> frozenset[str]:
        """The lines of this computer's key, to be found wherever they got to."""

    def write(self, path: Path | None, default_name: str, contents: Mapping[str, str]) -> Path:
        """Write the archive and return where it is: `path`, or a file of that name, or that name and
        a number, in the current directory. Nothing is overwritten."""


class WindowsSide(Protocol):
    """The host entries in the Windows around a WSL."""

    @property
    def main_file(self) -> Path:
        """The configuration that Windows' ssh and editors read."""

    def complaints(self, records: Sequence[RuntimeRecord]) -> Sequence[str]:
        """What is not as it should be for these runtimes. OSError when it cannot be looked at."""


class Computer(Protocol):
    """This computer, as far as `doctor` looks at it. Every call may raise OSError."""

    def ssh_version(self) -> str | None:
        """What the system's ssh says of itself; None without one."""

    def mode(self, path: Path) -> int | None:
        """The permission bits; None of what is not there, or where they mean nothing (Windows)."""

    def clock_ahead_s(self, directory: Path) -> float:
        """How far the clock of the directory's file system is ahead of ours, by a file written now."""

    def newest_s(self, directory: Path) -> float | None:
        """How long ago its newest file was changed; None of an empty or missing one."""

    def free_bytes(self, path: Path) -> int:
        """The room on the disk of the path, or of its nearest existing parent."""

    def listen_on_loopback(self) -> None:
        """Open and close a port of 127.0.0.1, and reach it."""

    def reach(self, host: str, port: int) -> None:
        """Open and close a connection."""

    def editors(self) -> Sequence[Editor]:
        """The editors that have Remote-SSH, as far as they are on the PATH."""
