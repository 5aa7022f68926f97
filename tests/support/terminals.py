"""A user at a terminal: a real pseudo-terminal with the command line in it, and the screen it draws."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyte

from tests.support.house import House
from tests.support.waiting import wait_until

COLUMNS, ROWS = 80, 24

_TAKE_TERMINAL = """import fcntl, os, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])"""


class AtTerminal:
    """A program in a session of its own whose terminal is ours; killed at the end of the `with` block.

    Our hold on the slave keeps its modes to be looked at when the program has ended.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        size: tuple[int, int] = (COLUMNS, ROWS),
        stdin: int | None = None,
        stdout: int | None = None,
    ) -> None:
        self._master, self._slave = os.openpty()
        self._taken = bytearray()
        self.resize(*size)
        self.modes_before = self.modes()
        slave = self._slave
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *argv],
            cwd=cwd,
            env={"TERM": "xterm-256color", **env},
            stdin=slave if stdin is None else stdin,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> AtTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._slave)
        self._reader.join(5)
        os.close(self._master)

    @property
    def output(self) -> bytes:
        """All that was written to the terminal so far."""
        return bytes(self._taken)

    def type(self, keys: bytes) -> None:
        """Press the keys."""
        while keys:
            keys = keys[os.write(self._master, keys) :]

    def resize(self, columns: int, rows: int) -> None:
        """Change the window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number: int) -> None:
        """Send the program a signal."""
        os.kill(self.process.pid, number)

    def is_stopped(self) -> bool:
        """Whether the program stands still, as after Ctrl-Z."""
        status = Path(f"/proc/{self.process.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"

    def modes(self) -> list[Any]:
        """The terminal's modes, as `stty` would show them."""
        return termios.tcgetattr(self._slave)

    def is_raw(self) -> bool:
        """Whether keys go through as they are."""
        return not self.modes()[3] & termios.ISIG

    def expect(self, text: bytes, *, timeout_s: float = 20) -> None:
        """Wait for it on the terminal."""
        try:
            wait_until(lambda: text in self.output, timeout_s=timeout_s, message="it is shown")
        except AssertionError:
            raise AssertionError(f"{text!r} was not shown, but {self.output[-2000:]!r}") from None

    def finish(self, timeout_s: float = 30) -> int:
        """The program's exit status, once all that it wrote was taken."""
        status = self.process.wait(timeout_s)
        # What it wrote last is on its way to us; a mark of ours comes behind it.
        os.write(self._slave, b"\0end\0")
        wait_until(lambda: b"\0end\0" in self.output, message="the last of it has come")
        del self._taken[self._taken.index(b"\0end\0") :]
        return status

    def screen(self) -> list[str]:
        """What the user sees, without empty lines."""
        return render(self.output)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            self._taken += data


def render(output: bytes, size: tuple[int, int] = (COLUMNS, ROWS)) -> list[str]:
    """The screen after that output, without empty lines."""
    screen = pyte.Screen(*size)
    pyte.ByteStream(screen).feed(output)
    return [line.rstrip() for line in screen.display if line.strip()]


def at_terminal(house: House, *arguments: str, **more: Any) -> AtTerminal:
    """The command line at a terminal."""
    argv = [sys.executable, "-m", "colabdev", *arguments]
    env = {**house.environment, **more.pop("env", {})}
    return AtTerminal(argv, cwd=house.project, env=env, **more)


def kill_hard(at: AtTerminal) -> None:
    """kill -9."""
    at.signal(signal.SIGKILL)
    at.process.wait(10)
