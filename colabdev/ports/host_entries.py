"""Our part of the OpenSSH configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from colabdev.models import RuntimeRecord


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


class WindowsSide(Protocol):
    """The host entries in the Windows around a WSL."""

    @property
    def main_file(self) -> Path:
        """The configuration that Windows' ssh and editors read."""

    def complaints(self, records: Sequence[RuntimeRecord]) -> Sequence[str]:
        """What is not as it should be for these runtimes. OSError when it cannot be looked at."""
