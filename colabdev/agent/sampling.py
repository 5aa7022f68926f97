"""The supervisor's half of a job's sampler: starting it, telling it from the job, and ending it."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Set

from .jobdir import JobFiles


class Sampling:
    """The sampler of one job; there is none before `start`, and none where it cannot be started."""

    def __init__(self, files: JobFiles) -> None:
        self._files = files
        self._pid = 0

    def start(self) -> None:
        """Start it, once, with nothing of the job's environment but the way to programs."""
        if self._pid:
            return
        argv = [sys.executable, "-I", "-S", sys.argv[0], "sample", self._files.directory]
        kept = ("PATH", "LD_LIBRARY_PATH")  # Where programs and drivers are found.
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                argv,
                environment,
                setsigdef=[signal.SIGTERM],
                setpgroup=0,
            )
        except OSError:
            self._pid = -1

    def without(self, pids: Set[int]) -> Set[int]:
        """Those of the processes that are the job's."""
        return pids - {self._pid}

    def reaped(self, pid: int) -> None:
        """That process has ended; its number may be somebody else's from now on."""
        if pid == self._pid:
            self._pid = -1

    def end(self) -> None:
        """Nobody asks for another row."""
        if self._pid > 0:
            with suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
            with suppress(OSError):
                os.waitpid(self._pid, 0)
