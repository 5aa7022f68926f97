"""Work that may hang, in a process of its own that can be given up, and what it says meanwhile.

A call into a mounted Drive that does not answer cannot be ended from inside, and sometimes not even by
SIGKILL. So whoever works there is a child, and its parent only reads what it says.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List

Message = Dict[str, Any]
Say = Callable[[Message], None]

_PIPE_BYTES = 65536
_PR_SET_PDEATHSIG = 1


class Child:
    """A process that does `work` and says JSON objects; `problem` is in the last one if it failed."""

    def __init__(self, work: Callable[[Say], None]) -> None:
        self._out, inlet = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._out)
            _work(work, inlet)
        os.close(inlet)
        os.set_blocking(self._out, False)
        self._rest = b""
        self._has_closed = False
        self._is_reaped = False
        self.last: Message = {}
        """What it said last."""
        self.heard = time.monotonic()
        """When it last said something."""

    def messages(self) -> List[Message]:
        """What it has said since the last call."""
        fresh = b""
        while not self._has_closed:
            try:
                piece = os.read(self._out, _PIPE_BYTES)
            except BlockingIOError:
                break
            if not piece:
                os.close(self._out)
                self._has_closed = True
            fresh += piece
        if fresh:
            self.heard = time.monotonic()
        *lines, self._rest = (self._rest + fresh).split(b"\n")
        said = [json.loads(line.decode("ascii")) for line in lines]
        self.last = said[-1] if said else self.last
        return said

    def wait(self, timeout_s: float) -> None:
        """Until it says something or ends, or for so long."""
        if not self._has_closed:
            select.select([self._out], [], [], timeout_s)

    @property
    def fd(self) -> int:
        """What can be read when it says something; -1 once it has ended."""
        return -1 if self._has_closed else self._out

    def has_ended(self) -> bool:
        """It is no more, and all that it said was read."""
        if not self._is_reaped:
            pid, _ = os.waitpid(self.pid, os.WNOHANG)
            self._is_reaped = pid == self.pid
        return self._is_reaped and self._has_closed

    def join(self) -> None:
        """Once it has said all: wait for its end, which is near."""
        if not self._is_reaped:
            os.waitpid(self.pid, 0)
            self._is_reaped = True

    def kill(self) -> None:
        """Ask the system to end it. One that hangs in a dead mount may stay."""
        if not self._is_reaped:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def _work(work: Callable[[Say], None], inlet: int) -> None:
    """The child's whole life."""
    pipe = os.fdopen(inlet, "wb", buffering=0)

    def say(message: Message) -> None:
        pipe.write(json.dumps(message).encode("ascii") + b"\n")

    try:
        _die_with_parent()
        _let_go_of_streams()
        with suppress(OSError):
            os.nice(10)  # The trainer comes first.
        work(say)
    except OSError as exc:
        with suppress(OSError):
            say({"problem": exc.strerror or str(exc), "errno": exc.errno})
    except Exception as exc:  # noqa: BLE001  A boundary: nobody else would ever hear of it.
        with suppress(OSError):
            say({"problem": "a bug: {}: {}".format(type(exc).__name__, exc)})
    os._exit(0)


def _die_with_parent() -> None:
    """Where the system can do that (Linux); elsewhere it ends when it next says something."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _let_go_of_streams() -> None:
    """Nobody who waits for the end of our parent's output waits for us."""
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 1)
    os.close(silence)
