"""Starting carriers: the supervisor's half, and the agent's where no supervisor is any more."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Set

from . import jobdir, processes
from .carrier_files import CarrierFiles
from .jobdir import JobFiles

_KEPT = ("PATH", "LD_LIBRARY_PATH", "COLABDEV_MEMORY_DIR", "COLABDEV_CRASH_AT")
"""All that a carrier gets of a job's environment, which may hold secrets."""
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0


class Carrying:
    """The carrier of the job that this process supervises. It is no process of the job's: it lives on
    when that ends, and is started again when it was killed."""

    def __init__(self, files: JobFiles, spec: Dict[str, Any]) -> None:
        self._files = files
        self._is_wanted = bool(spec.get("checkpoints"))
        self._pid = 0
        self._start_at = 0.0
        self._pause_s = _PAUSE_S

    def start(self) -> None:
        """See that there is one."""
        now = time.monotonic()
        if not self._is_wanted or self._pid or now < self._start_at:
            return
        # One that lived long was killed; one that ends at once would do so again.
        lived_long = now - self._start_at > _LONGEST_PAUSE_S
        self._pause_s = _PAUSE_S if lived_long else min(self._pause_s * 2, _LONGEST_PAUSE_S)
        self._start_at = now + self._pause_s
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                _command(self._files),
                _environment(self._files),
                setsigdef=[signal.SIGTERM, signal.SIGINT],
                setpgroup=0,
            )
        except OSError:
            return  # It is tried again.

    def reaped(self, pid: int) -> None:
        """That process has ended; its number may be somebody else's from now on."""
        if pid == self._pid:
            self._pid = 0

    def without(self, pids: Set[int]) -> Set[int]:
        """Those of the processes that are the job's."""
        if not self._pid:
            return pids
        return pids - {self._pid} - processes.below(self._pid)


def revive(files: CarrierFiles) -> None:
    """Start a carrier when none runs. One that has nothing to do ends by itself."""
    if runs(files):
        return
    os.makedirs(files.directory, mode=0o700, exist_ok=True)
    with open(files.complaints, "ab") as complaints:
        subprocess.Popen(
            _command(files.job),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            env=_environment(files.job),
            cwd="/",
            start_new_session=True,
        )


def runs(files: CarrierFiles) -> bool:
    """Somebody holds the carrier's lock."""
    handle = _open_lock(files.lock)
    if handle is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def is_last(files: CarrierFiles) -> bool:
    """No other job of this machine has a carrier."""
    root = os.path.dirname(files.job.directory)
    others = [os.path.join(root, name) for name in os.listdir(root) if name != files.job.id]
    return not any(runs(CarrierFiles(JobFiles(one), "/")) for one in others)


def _open_lock(path: str) -> Optional[int]:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _command(files: JobFiles) -> List[str]:
    return [sys.executable, "-I", "-S", sys.argv[0], "carry", files.directory]


def _environment(files: JobFiles) -> Dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # The job may have been given another one.
    return {**kept, "HOME": jobdir.home_of(files.directory)}
