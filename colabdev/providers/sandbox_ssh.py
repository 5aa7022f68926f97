"""The SSH server of a sandbox: `python -m colabdev.providers.sandbox_ssh`, started by the guardian.

It behaves as OpenSSH's sshd does where a client could tell: exit codes and signals, separate pipes
with back-pressure, terminals, SFTP, local forwarding. It prints one JSON line once it listens and
ends, with everything it started, when the guardian does (the end of its stdin) or at SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import pty
import signal
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.packet import SSHPacket
from asyncssh.stream import SSHServerStreamSession

from colabdev.providers.processes import become_subreaper, end_family, find_family, reset_signals
from colabdev.providers.sandbox import parse_options
from colabdev.providers.sandbox_files import SandboxFiles, login_environment, login_shell

_CHUNK = 256 * 1024
_PIPE_SIZE = 1024 * 1024
_KEEPALIVE_S = 15
_KEEPALIVES_MISSED = 3
_KILL_TIMEOUT_S = 5.0
# AES runs in hardware; chacha20-poly1305, which OpenSSH would pick first, costs half the speed.
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
)
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
    for _, writing in pipes:
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


class _Channel(asyncssh.SSHServerChannel[bytes]):
    """A session channel on which two things are as with sshd: commands are bytes, and SFTP ends with
    an exit status, without which scp calls its own success a failure.

    HACK: asyncssh refuses a command that is not UTF-8 before anything of ours sees it, and closes
    SFTP without a status. This can go once it does neither.
    """

    _status_sent = False

    def close(self) -> None:
        if self.get_subsystem() is not None and not self._status_sent:
            self._status_sent = True
            self.exit(0)  # Closes as well, and so comes back here.
        super().close()

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        command = packet.get_string()
        packet.check_end()
        if b"\0" in command:
            return False
        return self._start_session(command=os.fsdecode(command))


class _Session(SSHServerStreamSession[bytes]):
    """One session channel: a command, a shell, or SFTP, which the base class runs."""

    def __init__(self, login: Login, children: Children) -> None:
        super().__init__(self._serve, partial(_Sftp, home=os.fsencode(login.home)), 3)
        self._login = login
        self._children = children
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._terminal: Terminal | None = None
        self._command: Command | None = None
        self._serving: asyncio.Task[None] | None = None

    def connection_made(self, chan: SSHChannel[bytes]) -> None:
        super().connection_made(chan)
        assert isinstance(chan, asyncssh.SSHServerChannel)
        self._channel = chan
        chan.set_write_buffer_limits(high=2 * _CHUNK)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._serving is not None:
            self._serving.cancel()

    def pty_requested(self, term_type: str, term_size: Size, term_modes: Mapping[int, int]) -> bool:
        self._terminal = Terminal(term_type, term_size)
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    # These act at once. The base class would queue them behind input that may never be read.
    def signal_received(self, signal: str) -> None:
        if self._command is not None:
            self._command.send_signal(signal)

    def break_received(self, msec: int) -> bool:
        return False

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._command is not None:
            self._command.resize((width, height, pixwidth, pixheight))

    async def _serve(
        self,
        stdin: asyncssh.SSHReader[bytes],
        stdout: asyncssh.SSHWriter[bytes],
        stderr: asyncssh.SSHWriter[bytes],
    ) -> None:
        assert self._channel is not None
        self._serving = asyncio.current_task()
        try:
            command = self._command = self._start(self._channel)
        except OSError as exc:
            # As when a shell cannot execute what it found, too long a command line for one.
            stderr.write(f"cannot start the command: {exc.strerror}\n".encode())
            self._channel.exit(126)
            return
        feeding = asyncio.create_task(_feed(command, stdin))
        writers = (stdout, stderr)[: len(command.outputs)]
        try:
            pumps = [
                _pump(command, handle, writer)
                for handle, writer in zip(command.outputs, writers, strict=True)
            ]
            await asyncio.gather(*pumps)
            _report_end(self._channel, await command.ended)
        except (BrokenPipeError, asyncssh.Error) as exc:
            # The client is gone; `connection_lost` says no more than this either.
            logging.getLogger(__name__).debug("session cut: %s", exc)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            command.close_all()

    def _start(self, channel: asyncssh.SSHServerChannel[bytes]) -> Command:
        text = channel.get_command()
        line = None if text is None else os.fsencode(text)
        environment = {
            **self._login.environment,
            **admitted_environment(channel.get_environment_bytes()),
        }
        if self._terminal is None:
            return start_command(self._login, line, environment, self._children)
        return start_in_terminal(self._login, line, environment, self._terminal, self._children)


class _Sftp(asyncssh.SFTPServer):
    """The whole file system, as the user sees it; relative paths start at HOME."""

    def __init__(self, chan: asyncssh.SSHServerChannel[bytes], *, home: bytes) -> None:
        super().__init__(chan)
        self._home = home

    def map_path(self, path: bytes) -> bytes:
        return os.path.join(self._home, path)

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        # Opening a FIFO waits for its other end, and would stop every other session meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISFIFO(os.stat(self.map_path(path)).st_mode):
                raise asyncssh.SFTPFailure("Not a regular file")
        return super().open(path, pflags, attrs)


class _Server(asyncssh.SSHServer):
    """One connection."""

    def __init__(self, login: Login, children: Children) -> None:
        self._login = login
        self._children = children
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def session_requested(
        self,
    ) -> tuple[asyncssh.SSHServerChannel[bytes], asyncssh.SSHServerSession[bytes]]:
        assert self._connection is not None
        channel = self._connection.create_server_channel(None, "strict")
        # The one way to a channel of our class with all of the connection's settings.
        channel.__class__ = _Channel
        return channel, _Session(self._login, self._children)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> bool:
        return True


async def serve(files: SandboxFiles, python: str) -> None:
    """Listen, say where, and return when the guardian is gone or asks us to end."""
    children = Children()
    login = Login(str(files.home), login_shell(), login_environment(files, python))
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, children.reap)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    loop.add_reader(sys.stdin.fileno(), ending.set)
    key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: _Server(login, children),
        server_host_keys=[key],
        authorized_client_keys=str(files.authorized_keys),
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        x11_forwarding=False,
        agent_forwarding=False,
        line_editor=False,
        encoding=None,
        encryption_algs=_CIPHERS,
        keepalive_interval=_KEEPALIVE_S,
        keepalive_count_max=_KEEPALIVES_MISSED,
    )
    public = key.export_public_key().decode("ascii").split()
    listening = {"port": acceptor.get_port(), "host_key": " ".join(public[:2])}
    os.write(1, json.dumps(listening).encode("ascii") + b"\n")
    await ending.wait()
    _end_family(files, children.reap)
    # Not by returning: a thread that still resolves a name for somebody would hold us up.
    os._exit(0)


def main(argv: Sequence[str]) -> None:
    options = parse_options(argv)
    reset_signals()
    # The same for the user's commands as a login on a VM gives them; ours are private one by one.
    os.umask(0o022)
    become_subreaper()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    asyncssh.set_log_level(logging.WARNING)
    asyncio.run(serve(SandboxFiles(options.root, options.name), options.python))


def _end_family(files: SandboxFiles, reap: Callable[[], None]) -> None:
    """End all but ourselves, the guardian included when it still lives: it only waits for us."""
    me = os.getpid()
    spare = {me, os.getppid()}
    end_family(
        lambda: find_family(files.marker, {me}, spare=spare), timeout_s=_KILL_TIMEOUT_S, reap=reap
    )


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


async def _feed(command: Command, stdin: asyncssh.SSHReader[bytes]) -> None:
    """Hand the client's input to the command. What it does not want any more is dropped."""
    wanted = True
    while data := await stdin.read(_CHUNK):
        wanted = wanted and await _write(command.stdin, data)
    # A terminal learns of the end of input by a character only, which is the client's to send.
    if not command.has_terminal:
        command.close(command.stdin)


async def _pump(command: Command, handle: int, writer: asyncssh.SSHWriter[bytes]) -> None:
    """Send what the command writes, no faster than the client takes it."""
    while data := await _read(handle):
        writer.write(data)
        await writer.drain()
    if not command.has_terminal:
        command.close(handle)


async def _read(handle: int) -> bytes:
    """What is there to read, at least a byte; nothing at the end."""
    loop = asyncio.get_running_loop()
    while True:
        await _ready(handle, loop.add_reader, loop.remove_reader)
        try:
            return os.read(handle, _CHUNK)
        except BlockingIOError:
            continue
        except OSError:
            # EIO is how a terminal says that nobody has it open any more.
            return b""


async def _write(handle: int, data: bytes) -> bool:
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


def _report_end(channel: asyncssh.SSHServerChannel[bytes], status: int) -> None:
    if os.WIFSIGNALED(status):
        name = _signal_name(os.WTERMSIG(status))
        channel.exit_with_signal(name, core_dumped=os.WCOREDUMP(status))
    else:
        channel.exit(os.WEXITSTATUS(status))


def _signal_name(number: int) -> str:
    """The signal without SIG; real-time signals have no names."""
    known = {member.value: member.name.removeprefix("SIG") for member in signal.Signals}
    return known.get(number, f"RT{number}")


def _set_size(terminal: int, size: Size) -> None:
    width, height, pixel_width, pixel_height = (min(value, 0xFFFF) for value in size)
    packed = struct.pack("HHHH", height, width, pixel_width, pixel_height)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, packed)


def _widen(pipe: int) -> None:
    """Fewer, larger reads, where the system allows it; a user has only so many such pages."""
    if sys.platform == "linux":
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


if __name__ == "__main__":
    main(sys.argv[1:])
