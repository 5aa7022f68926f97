"""What the services need from the outside world, as contracts.

Implementations live in `adapters`, `providers` and `tunnels`; `tests/contract` runs one suite over
every implementation of a port.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from colabdev.models import (
    AgentHello,
    ExitStatus,
    Machine,
    Output,
    RuntimeRecord,
    StartRequest,
)

Progress = Callable[[str], None]
"""Told of each step as it begins, in words for the user; prints nothing itself."""


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

    def replace_unreadable(self, name: str, record: RuntimeRecord | None) -> str:
        """Put `record`, or nothing, in the place of an unreadable state file; returns where the old
        file is kept."""

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

    def close(self) -> None:
        """Let the agent end."""


class Keeper(Protocol):
    """A runtime's keeper, connected and authenticated."""

    def link(self) -> Mapping[str, object]:
        """How the keeper's connection stands: `state` (connecting, ready, unreachable, lost or
        refused), `error` when there is one, `since`."""

    def wait_ready(self, timeout_s: float) -> AgentHello:
        """Wait until the runtime answers; raises what keeps it from doing so."""

    def agent(self) -> AgentStream:
        """An agent stream, handed out from the running spare."""

    def quit(self) -> None:
        """End the keeper; returns when it is gone."""


class Keepers(Protocol):
    """The keepers of this computer."""

    def find(self, record: RuntimeRecord) -> Keeper | None:
        """The running keeper of this version; None when none answers."""

    def ensure(self, name: str) -> Keeper:
        """The runtime's keeper, started now when none of this version answers."""


class HostEntries(Protocol):
    """Our part of the OpenSSH configuration: one `Host` stanza and one pinned key per runtime."""

    def public_key(self) -> str:
        """This computer's public key, made at first use, as an `authorized_keys` line."""

    def write(self, record: RuntimeRecord) -> None:
        """Make `ssh ALIAS` reach the runtime; the record must have a machine."""

    def remove(self, name: str) -> None:
        """Take the stanza and the pinned key out. Harmless when they are out already."""

    def command(self, name: str, arguments: Sequence[str]) -> Sequence[str]:
        """The argument list of the system ssh that reaches the runtime through our stanza."""
