"""Ending a job: by its supervisor, or, where that was killed, as far as processes can be told."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Callable

from . import jobdir, processes
from .jobdir import JobFiles
from .refusal import Refusal
from .states import describe

_START_TIMEOUT_S = 30.0
_STOP_MARGIN_S = 10.0
_POLL_S = 0.02


def stop(files: JobFiles, grace_s: float, number: int, reason: str = "") -> None:
    """The signal to the command's group, after the grace KILL to all of the job; `reason` is one of
    jobdir.REASONS or "". Returns once it has ended; Refusal when it does not."""
    if describe(files)["state"] in jobdir.ENDED_STATES:
        return
    wish = {"grace_s": grace_s, "signal": int(number), "time": time.time(), "reason": reason}
    with suppress(OSError):  # On a full disk it is given the usual grace.
        jobdir.write_document(files.stop, wish)
    _stop(files, grace_s, number)


def _stop(files: JobFiles, grace_s: float, number: int) -> None:
    """Ask the supervisor; without one, do its work as far as the numbers of the processes allow."""
    if not _wait(lambda: os.path.exists(files.pid), _START_TIMEOUT_S):
        raise Refusal("cannot stop {!r}: it does not start".format(files.id))
    pid = jobdir.read_document(files.pid) or {}
    boot = pid["boot_id"]
    if processes.send(pid["supervisor"], boot, signal.SIGTERM):
        if _wait(lambda: os.path.exists(files.status), grace_s + _STOP_MARGIN_S):
            return
        if processes.is_alive(pid["supervisor"], boot):
            raise Refusal("cannot stop {!r}: its processes do not die".format(files.id))
    processes.send(pid["command"], boot, number, group=True)
    _wait(lambda: not processes.is_alive(pid["command"], boot), grace_s)
    processes.send(pid["command"], boot, signal.SIGKILL, group=True)
    processes.kill(processes.with_variable("COLABDEV_JOB", files.id))
    _wait(lambda: not processes.is_alive(pid["command"], boot), _STOP_MARGIN_S)


def _wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
