"""A job's terminal: the command has its slave, and what comes out of its master is the log.

The slave is closed here as soon as the command has it. Held open, it would keep a read of the master
from ever saying that nobody can write any more.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
import termios
from contextlib import suppress
from typing import Callable, List, Optional

DEFAULT_SIZE = [80, 24]
"""Columns and rows."""

_READ_BYTES = 64 * 1024
_TURN_BYTES = 256 * 1024
_KERNEL_BYTES = 1024 * 1024
"""More than any kernel keeps of a terminal's output."""
_LARGEST = 0xFFFF
_IUTF8 = 0x4000  # Linux and macOS agree; `termios` has no name for it.


class Terminal:
    """One pseudo-terminal, read into `log` for as long as anybody writes to it."""

    def __init__(self, log: int, size: List[int], lost: Callable[[], None]) -> None:
        """`lost` is told when the first byte could not be kept."""
        self.master, self.slave = os.openpty()
        self._log = log
        self._say_lost = lost
        self.lost_bytes = 0
        self.is_open = True
        """False while nobody has the slave; a command may close it and open it again by its name."""
        os.set_blocking(self.master, False)
        _take_utf8(self.slave)
        self._set_size(size)

    def become_controlling(self) -> int:
        """In the command, which leads a session: make this its terminal; the descriptor to write to."""
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
        return self.slave

    def hand_over(self) -> None:
        """The command has it now; once."""
        os.close(self.slave)

    def copy(self, limit: int = _TURN_BYTES) -> None:
        """Move what was written to the log, at most about `limit` bytes of it; never waits."""
        while limit > 0:
            data = self._read()
            if not data:
                return
            limit -= len(data)
            self._append(data)

    def finish(self) -> None:
        """Move the rest, the command having ended. Others may write for ever: what a kernel can hold
        is enough to have all that the command wrote."""
        self.copy(_KERNEL_BYTES)

    def resize(self, size: List[int], command: int) -> None:
        """Set columns and rows. Told a second time the programs hear of it too, and draw anew."""
        if not self._set_size(size):
            # The kernel keeps silent about a size that does not change.
            with suppress(OSError):
                os.killpg(self._foreground() or command, signal.SIGWINCH)

    def close(self) -> None:
        """Hang up."""
        os.close(self.master)

    def _set_size(self, size: List[int]) -> bool:
        """Whether it changed anything."""
        columns, rows = (min(max(int(number), 1), _LARGEST) for number in size)
        wanted = struct.pack("HHHH", rows, columns, 0, 0)
        changes: bool = fcntl.ioctl(self.master, termios.TIOCGWINSZ, bytes(8)) != wanted
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, wanted)
        return changes

    def _foreground(self) -> Optional[int]:
        try:
            return os.tcgetpgrp(self.master)
        except OSError:
            return None  # Only Linux tells it by the master.

    def _read(self) -> bytes:
        """What stands there; b"" when there is nothing now, or nobody who could write."""
        pieces, missing = [], _READ_BYTES
        while missing > 0:
            try:
                piece = os.read(self.master, missing)
            except BlockingIOError:
                self.is_open = True
                break
            except OSError:
                piece = b""  # EIO: Linux's word for what others call the end of the file.
            if not piece:
                self.is_open = False
                break
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _append(self, data: bytes) -> None:
        """What the disk does not take is counted: the job must not stand still for it."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._log, view) :]
            except OSError:
                if not self.lost_bytes:
                    self._say_lost()
                self.lost_bytes += len(view)
                return


def _take_utf8(slave: int) -> None:
    """Backspace at a prompt takes a letter, not a byte, as in any terminal of today."""
    if sys.platform.startswith(("linux", "darwin")):
        with suppress(termios.error):
            modes = termios.tcgetattr(slave)
            modes[0] |= _IUTF8
            termios.tcsetattr(slave, termios.TCSANOW, modes)
