"""Where runtimes come from, and where they are remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from colabdev.models import Machine, RuntimeRecord, StartRequest
from colabdev.ports.progress import Progress


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
