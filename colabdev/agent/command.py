"""The child of a supervisor on its way to being the job's command."""

from __future__ import annotations

import errno
import os
import signal
from typing import Any, Dict, Optional

from . import jobdir
from .terminal import Terminal


def become(
    spec: Dict[str, Any], stdin: int, terminal: Optional[Terminal], log: int, gate: int
) -> None:
    """Lead a session of our own, wait for the byte that lets us go, and go on as the command. Returns
    when the byte does not come."""
    signal.set_wakeup_fd(-1)
    os.setsid()
    output = terminal.become_controlling() if terminal else log
    if spec.get("stdin") == jobdir.TERMINAL:
        stdin = output
    for source, target in ((stdin, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for number in signal.valid_signals():  # Python's own habits are not the job's.
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    if os.read(gate, 1):
        _execute(spec)


def _execute(spec: Dict[str, Any]) -> None:
    """What keeps it from starting is said as a shell would."""
    argv = [os.fsencode(argument) for argument in spec["command"]]
    try:
        os.chdir(os.fsencode(spec["workdir"]))
        os.execvpe(argv[0], argv, os.environb)
    except OSError as exc:
        missing = exc.errno in (errno.ENOENT, errno.ENOTDIR)
        cause = "command not found" if missing else os.strerror(exc.errno or 0).lower()
        os.write(2, argv[0] + ": {}\n".format(cause).encode("ascii", "replace"))
        os._exit(127 if missing else 126)
