"""This computer: its programs, and what can be looked at or written for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from colabdev.models import Editor, EditorKind


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
