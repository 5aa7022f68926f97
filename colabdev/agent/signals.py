"""The signals that a supervisor gets, and those that it sends to its own descendants."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_CHILD_SUBREAPER = 36


def wakeups() -> int:
    """A pipe that gets the number of each TERM and CHLD; INT is ignored from now on."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, _noted)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return reading


def _noted(number: int, frame: object) -> None:
    """The wakeup pipe has it."""


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent ended, where the system can do that (Linux)."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (AttributeError, OSError):
        return


def send_group(pid: int, number: int) -> None:
    """To that process and its group, if they are still there."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        send(pid, number)  # It has not made its own group yet.


def send(pid: int, number: int) -> None:
    """To that process, if it is still there."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
