"""Processes of ours that outlive the agent that started them: one for each lock."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, Optional

_LOCK_WAIT_S = 60.0
_POLL_S = 0.1


def agent_name() -> str:
    """Tells this agent from another version's."""
    return os.path.basename(sys.argv[0])


def start(
    words: List[str], complaints: str, told: Optional[bytes] = None, agent: Optional[str] = None
) -> None:
    """Start that agent, or this one, with these words; it reads what it is `told`, and forks
    away at once."""
    with open(complaints, "wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", agent or sys.argv[0], *words],
            stdin=subprocess.DEVNULL if told is None else subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=file,
            cwd="/",
        )
    child.communicate(told)


def leave_starter() -> None:
    """As a daemon: let go of whoever started us, and of their terminal."""
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def take(path: str, holder: Callable[[], Optional[str]]) -> Optional[int]:
    """The lock at `path`, held; None when a daemon of our version, which `holder` names, has it. Only
    another version's is waited for: it leaves once it sees us ask."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            if holder() == agent_name() or time.monotonic() > deadline:
                os.close(lock)
                return None
            time.sleep(_POLL_S)


def is_held(path: str) -> bool:
    """Somebody holds that lock."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


class Child:
    """A process of ours that does one thing and says what came of it, as one JSON object. It may hang
    on a file system that does; we do not."""

    def __init__(
        self, work: Callable[[], Dict[str, Any]], explain: Callable[[OSError], str]
    ) -> None:
        """`explain` makes the `problem` of what it says of an OSError."""
        self._out, inlet = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._out)
            _work(work, explain, inlet)
        os.close(inlet)

    def has_ended(self, timeout_s: float = 0) -> bool:
        """It said all that it had to say, or was killed; waits for that at most so long."""
        return bool(select.select([self._out], [], [], timeout_s)[0])

    def kill(self) -> None:
        """End it, whatever it does."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def result(self, otherwise: Dict[str, Any]) -> Dict[str, Any]:
        """What it said; `otherwise` when it was killed and said nothing."""
        with open(self._out, "rb") as pipe:
            said = pipe.read()
        os.waitpid(self._pid, 0)
        try:
            told = json.loads(said.decode("ascii"))
        except ValueError:
            told = None
        return told if isinstance(told, dict) else otherwise


def _work(
    work: Callable[[], Dict[str, Any]], explain: Callable[[OSError], str], inlet: int
) -> None:
    """The child's whole life."""
    try:
        told = work()
    except OSError as exc:
        told = {"problem": explain(exc)}
    except Exception as exc:  # noqa: BLE001  A boundary: nobody else would ever hear of it.
        told = {"problem": "a bug: {}: {}".format(type(exc).__name__, exc)}
    with suppress(OSError):
        os.write(inlet, json.dumps(told).encode("ascii"))
    os._exit(0)
