"""Commands in a sandbox: starting them as sshd would, and moving their bytes. Knows nothing of SSH."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

CHUNK = 256 * 1024

# The client's wishes that OpenSSH's own configuration commonly admits; the rest stays fixed.
_ADMITTED = ("LANG", "LC_")
# A shell that opens the terminal by name as a session leader makes it its controlling terminal,
# without code of ours between fork and exec.
_OPEN_TERMINAL = 'exec <>"$0" >&0 2>&0; exec "$@"'


Size = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Login:
    """What every session of the sandbox begins with."""

    home: str
    shell: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Terminal:
    """What a client said of the terminal it sits at."""

    kind: str
    size: Size


class Children:
    """Waits for every process that ends below this server, those that lost their parents too."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}

    def watch(self, pid: int) -> asyncio.Future[int]:
        """The wait status of `pid`, which must have been started in this very step of the loop."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[pid] = future
        return future

    def reap(self) -> None:
        """Collect all that ended; signals merge, so one may stand for many."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                future = self._waiting.pop(pid, None)
                if future is not None and not future.done():
                    future.set_result(status)


class Command:
    """One running command: its process and our ends of its pipes, or of its terminal."""

    def __init__(
        self, pid: int, ended: asyncio.Future[int], stdin: int, outputs: Sequence[int]
    ) -> None:
        self._pid = pid
        self.ended = ended
        self.stdin = stdin
        self.outputs = tuple(outputs)
        self._open = {stdin, *outputs}
        for handle in self._open:
            os.set_blocking(handle, False)

    @property
    def has_terminal(self) -> bool:
        return self.stdin in self.outputs

    def close(self, handle: int) -> None:
        if handle in self._open:
            self._open.remove(handle)
            os.close(handle)

    def close_all(self) -> None:
        """Let go of the process. The kernel hangs up on one with a terminal; any other runs on."""
        for handle in list(self._open):
            self.close(handle)

    def send_signal(self, name: str) -> None:
        """Signal the command's process group, while the number is certainly still its own."""
        number = getattr(signal, f"SIG{name}", None)
        if isinstance(number, signal.Signals) and not self.ended.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)

    def resize(self, size: Size) -> None:
        if self.has_terminal and self.stdin in self._open:
            _set_size(self.stdin, size)


def start_command(
    login: Login, command: bytes | None, environment: Mapping[str, str], children: Children
) -> Command:
    """Run a command, or an interactive shell for None, on three pipes."""
    pipes = [os.pipe(), os.pipe(), os.pipe()]
    (their_stdin, stdin), (stdout, their_stdout), (stderr, their_stderr) = pipes
    for writing in (stdin, their_stdout):
        _widen(writing)
    try:
        pid = _spawn(
            _shell_argv(login, command),
            login,
            environment,
            (their_stdin, their_stdout, their_stderr),
        )
    except BaseException:
        for handle in (stdin, stdout, stderr):
            os.close(handle)
        raise
    finally:
        for handle in (their_stdin, their_stdout, their_stderr):
            os.close(handle)
    return Command(pid, children.watch(pid), stdin, [stdout, stderr])


def start_in_terminal(
    login: Login,
    command: bytes | None,
    environment: Mapping[str, str],
    terminal: Terminal,
    children: Children,
) -> Command:
    """Run a command, or an interactive login shell for None, in a new terminal."""
    ours, theirs = pty.openpty()
    try:
        _set_size(ours, terminal.size)
        argv = ["/bin/sh", "-c", _OPEN_TERMINAL, os.ttyname(theirs), *_shell_argv(login, command)]
        pid = _spawn(argv, login, {**environment, "TERM": terminal.kind}, (theirs, theirs, theirs))
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Command(pid, children.watch(pid), ours, [ours])


def admitted_environment(wishes: Mapping[bytes, bytes]) -> dict[str, str]:
    """Of the variables a client sent, those it may set."""
    decoded = {os.fsdecode(key): os.fsdecode(value) for key, value in wishes.items()}
    return {
        key: value
        for key, value in decoded.items()
        if (key == _ADMITTED[0] or key.startswith(_ADMITTED[1]))
        and "=" not in key
        and "\0" not in key + value
    }


def _shell_argv(login: Login, command: bytes | None) -> list[str | bytes]:
    return [login.shell, "-l"] if command is None else [login.shell, "-c", command]


def _spawn(
    argv: Sequence[str | bytes],
    login: Login,
    environment: Mapping[str, str],
    stdio: tuple[int, int, int],
) -> int:
    """Start a process as the leader of its own session. It is waited for by `Children` alone."""
    process = subprocess.Popen(
        argv,
        stdin=stdio[0],
        stdout=stdio[1],
        stderr=stdio[2],
        cwd=login.home if os.path.isdir(login.home) else "/",
        env=environment,
        start_new_session=True,
    )
    # Popen must not wait for it as well, nor complain that nobody did.
    process.returncode = 0
    return process.pid


async def read_some(handle: int) -> bytes:
    """What is there to read, at least a byte; nothing at the end."""
    loop = asyncio.get_running_loop()
    while True:
        await _ready(handle, loop.add_reader, loop.remove_reader)
        try:
            return os.read(handle, CHUNK)
        except BlockingIOError:
            continue
        except OSError:
            # EIO is how a terminal says that nobody has it open any more.
            return b""


async def write_all(handle: int, data: bytes) -> bool:
    """Write everything; False when nobody will read it."""
    loop = asyncio.get_running_loop()
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(handle, view) :]
        except BlockingIOError:
            await _ready(handle, loop.add_writer, loop.remove_writer)
        except OSError:
            # EPIPE of a pipe, EIO of a terminal.
            return False
    return True


async def _ready(handle: int, add: Callable[..., None], remove: Callable[[int], bool]) -> None:
    ready = asyncio.Event()
    add(handle, ready.set)
    try:
        await ready.wait()
    finally:
        remove(handle)


def _set_size(terminal: int, size: Size) -> None:
    width, height, pixel_width, pixel_height = (min(value, 0xFFFF) for value in size)
    packed = struct.pack("HHHH", height, width, pixel_width, pixel_height)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, packed)


def _widen(pipe: int) -> None:
    """Fewer, larger reads where the system allows it; a user has only so many pages for this."""
    if sys.platform == "linux":
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK)
