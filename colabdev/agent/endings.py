"""How a job's command ended, and what the kernel's counters and the disk say of why; no guesses."""

from __future__ import annotations

import os
from typing import Dict, Iterator, Optional, Tuple

from . import jobdir

_CGROUPS = "/sys/fs/cgroup"
_ENOUGH_BYTES = 64 * 1024
PATIENCE_S = 10.0
_KILLED = 9
_KILLED_IN_A_SHELL = 128 + _KILLED

MACHINE = "machine"
CGROUP = "cgroup"


def decode_status(wait_status: Optional[int]) -> Tuple[Optional[int], Optional[int]]:
    """Exit code and the number of the signal that ended it; at most one of them is known."""
    if wait_status is None:
        return None, None
    if os.WIFSIGNALED(wait_status):
        return None, os.WTERMSIG(wait_status)
    return os.WEXITSTATUS(wait_status), None


class Evidence:
    """Taken when the job starts, asked when it has ended."""

    def __init__(self) -> None:
        self._before = memory_kills()

    def reason(self, code: Optional[int], number: Optional[int], *paths: str) -> Optional[str]:
        """One of `jobdir.REASONS` for a failed job, None when nothing but its status tells.

        The machine's counter also counts what others lost, so it only speaks of a job that was killed;
        our own group's speaks of any failure, because a program that lost a worker says what it likes.
        """
        if code == 0:
            return None
        now = memory_kills()
        rose = {where for where, count in now.items() if count > self._before.get(where, count)}
        was_killed = number == _KILLED or code == _KILLED_IN_A_SHELL
        if CGROUP in rose or (MACHINE in rose and was_killed):
            return jobdir.OUT_OF_MEMORY
        return jobdir.DISK_FULL if is_full(*paths) else None


class DiskGuard:
    """Tells when a job must be ended because there is no room for its log.

    A program that ignores that it cannot write would run on for hours without a log. One that makes
    room again, having failed to write a checkpoint say, is left alone.
    """

    def __init__(self, *paths: str) -> None:
        self._paths = paths
        self._full_since: Optional[float] = None

    def is_due(self, now: float) -> bool:
        """Look; whether the disk has been full for `PATIENCE_S`, at each look since."""
        if not is_full(*self._paths):
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        return self._full_since is not None and now - self._full_since >= PATIENCE_S


def is_full(*paths: str) -> bool:
    """Whether there is as good as no room left on the disk of one of them."""
    for path in paths:
        try:
            disk = os.statvfs(path)
        except OSError:
            continue
        if disk.f_blocks and disk.f_bavail * disk.f_frsize < _ENOUGH_BYTES:
            return True
    return False


def memory_kills() -> Dict[str, int]:
    """How often the kernel killed a process for memory: on this machine, and in our own group of
    processes. What this system does not count is left out."""
    found: Dict[str, int] = {}
    for where, path in ((MACHINE, "/proc/vmstat"), *((CGROUP, path) for path in _counters())):
        count = _counter(path)
        if count is not None:
            found.setdefault(where, count)
    return found


def _counters() -> Iterator[str]:
    """The files that may count for our group, the nearest first; in a container the path that the
    kernel gives may lead nowhere."""
    for controllers, group in _groups():
        if controllers == "":
            yield os.path.join(_CGROUPS, group.lstrip("/"), "memory.events")
        elif "memory" in controllers.split(","):
            yield os.path.join(_CGROUPS, "memory", group.lstrip("/"), "memory.oom_control")
            yield os.path.join(_CGROUPS, "memory", "memory.oom_control")


def _groups() -> Iterator[Tuple[str, str]]:
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        yield controllers, group


def _counter(path: str) -> Optional[int]:
    try:
        with open(path) as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    except (OSError, ValueError):
        return None
    return None
