"""Processes on a machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from colabdev.models import ExitStatus, Output


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
