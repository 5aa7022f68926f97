"""The child of a supervisor on its way to being the job's command."""

from __future__ import annotations

import errno
import importlib
import os
import signal
from typing import Any, Dict, Optional, Union

from . import jobdir
from .prelude import Prelude
from .terminal import Terminal


def become(
    spec: Dict[str, Any],
    stdin: int,
    output: Union[Terminal, int],
    gate: int,
    prelude: Optional[Prelude],
) -> None:
    """Lead a session of our own, wait for the byte that lets us go, do what comes before the command,
    and go on as that. Returns when the byte does not come."""
    signal.set_wakeup_fd(-1)
    os.setsid()
    if isinstance(output, Terminal):
        output = output.become_controlling()
    if spec.get("stdin") == jobdir.TERMINAL:
        stdin = output
    for source, target in ((stdin, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for number in signal.valid_signals():  # Python's own habits are not the job's.
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    if not os.read(gate, 1):
        return
    if prelude is not None:
        # Few jobs need what knows of other jobs and of installing.
        importlib.import_module(".preparing", __package__).prepare(spec, prelude)
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
