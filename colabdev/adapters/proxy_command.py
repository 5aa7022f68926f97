"""A ProxyCommand: a process of the user's whose stdin and stdout lead to a host."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from typing import IO, Any

_END_GRACE_S = 2.0
_LAST_WORDS_TIMEOUT_S = 1.0
_CHUNK_BYTES = 64 * 1024


class ProxySocket:
    """A socket to what the command leads to; it ends with the socket.

    The command runs as ssh runs it, through the user's shell and `exec`, but nobody is there to
    answer a question of its: it has no terminal, and a session of its own keeps Ctrl-C from it.
    """

    def __init__(self, command: str, *, piped: bool = sys.platform == "win32") -> None:
        """Start it; OSError when that fails. `piped` where a process cannot have a socket as its
        stdin and stdout."""
        self._inner, theirs = socket.socketpair()
        try:
            self._child = _start(command, subprocess.PIPE if piped else theirs.fileno())
        except BaseException:
            self._inner.close()
            theirs.close()
            raise
        if piped:
            _pump(theirs, self._child)
        else:
            theirs.close()
        self._stderr: deque[str] = deque(maxlen=1)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def close(self) -> None:
        """Hang up and end the command."""
        # Shut down first, because another thread may sit in recv, which closing would not wake.
        with contextlib.suppress(OSError):
            self._inner.shutdown(socket.SHUT_RDWR)
        self._inner.close()
        # At once: the program that we are in may end before a thread of its own comes to it.
        _signal(self._child, "SIGTERM")
        threading.Thread(target=self._end, daemon=True).start()

    def last_words(self) -> str:
        """The last line that the command, which has ended, wrote to stderr; "" while it runs."""
        try:
            code = self._child.wait(_LAST_WORDS_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return ""
        self._listener.join(_LAST_WORDS_TIMEOUT_S)
        return self._stderr[0] if self._stderr else f"its ProxyCommand ended with status {code}"

    def _listen(self) -> None:
        assert self._child.stderr is not None, "opened with a pipe"
        with self._child.stderr as stderr:
            for line in iter(lambda: stderr.readline(_CHUNK_BYTES), b""):
                text = line.decode("utf-8", "replace").strip()
                if text:
                    self._stderr.append(text)

    def _end(self) -> None:
        try:
            self._child.wait(_END_GRACE_S)
        except subprocess.TimeoutExpired:
            _signal(self._child, "SIGKILL")
            self._child.wait()


def _start(command: str, stdio: int) -> subprocess.Popen[bytes]:
    argv: str | list[str] = [os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}"]
    flags = 0
    if sys.platform == "win32":
        argv, flags = command, subprocess.CREATE_NO_WINDOW
    return subprocess.Popen(
        argv,
        stdin=stdio,
        stdout=stdio,
        stderr=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
        start_new_session=True,
        creationflags=flags,
    )


def _signal(child: subprocess.Popen[bytes], name: str) -> None:
    """Signal the command with all that it started."""
    if sys.platform == "win32":
        child.terminate()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.Signals[name])


def _pump(outer: socket.socket, child: subprocess.Popen[bytes]) -> None:
    """Carry bytes between a socket and the command's pipes, each way until its end."""
    assert child.stdin is not None, "opened with pipes"
    assert child.stdout is not None, "opened with pipes"
    for carry, pipe in ((_fill, child.stdin), (_drain, child.stdout)):
        threading.Thread(target=carry, args=(outer, pipe), daemon=True).start()


def _fill(source: socket.socket, pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError), pipe:
        while data := source.recv(_CHUNK_BYTES):
            view = memoryview(data)
            while view:
                view = view[pipe.write(view) :]


def _drain(target: socket.socket, pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError), target, pipe:
        while data := pipe.read(_CHUNK_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)  # Wakes the other direction, which closing would not.
