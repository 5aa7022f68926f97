"""The SSH server of a sandbox: `python -m colabdev.providers.sandbox_ssh`, started by the guardian.

It behaves as OpenSSH's sshd does where a client could tell: exit codes and signals, separate pipes
with back-pressure, terminals, SFTP, local forwarding. It prints one JSON line once it listens and
ends, with everything it started, when the guardian does (the end of its stdin) or at SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from colabdev.providers.lean_asyncssh import (
    SSHChannel,
    SSHPacket,
    SSHServerStreamSession,
    asyncssh,
)
from colabdev.providers.processes import (
    become_subreaper,
    descendants,
    end_family,
    list_processes,
    reset_signals,
)
from colabdev.providers.sandbox import parse_options
from colabdev.providers.sandbox_commands import (
    CHUNK,
    Children,
    Command,
    Login,
    Size,
    Terminal,
    admitted_environment,
    read_some,
    start_command,
    start_in_terminal,
    write_all,
)
from colabdev.providers.sandbox_files import SandboxFiles, login_environment, login_shell

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


class _Channel(asyncssh.SSHServerChannel[bytes]):
    """A session channel on which three things are as with sshd: commands are bytes; SFTP ends with an
    exit status, without which scp calls its own success a failure; and a client whose reader left
    (`ssh … | head`) can say so.

    HACK: asyncssh refuses a command that is not UTF-8 before anything of ours sees it, closes SFTP
    without a status, and does not know eow@openssh.com. This can go once it does better.
    """

    _status_sent = False

    def _process_eow_at_openssh_dot_com_request(self, packet: SSHPacket) -> bool:
        packet.check_end()
        if isinstance(self._session, _Session):
            self._session.output_unwanted()
        return True

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
        self._pumps: list[asyncio.Task[None]] = []

    def connection_made(self, chan: SSHChannel[bytes]) -> None:
        super().connection_made(chan)
        assert isinstance(chan, asyncssh.SSHServerChannel)
        self._channel = chan
        chan.set_write_buffer_limits(high=2 * CHUNK)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._channel = None
        if self._serving is not None:
            self._serving.cancel()

    def pty_requested(self, term_type: str, term_size: Size, term_modes: Mapping[int, int]) -> bool:
        self._terminal = Terminal(term_type, term_size)
        return True

    def output_unwanted(self) -> None:
        """Close the command's stdout, so that writing more ends it, as in a local pipeline."""
        if self._pumps:
            self._pumps[0].cancel()

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
        self._serving = asyncio.current_task()
        channel = self._channel
        if channel is None:
            # Cut before it began.
            return
        try:
            command = self._command = self._start(channel)
        except OSError as exc:
            # As when a shell cannot execute what it found, too long a command line for one.
            stderr.write(f"cannot start the command: {exc.strerror}\n".encode())
            channel.exit(126)
            return
        feeding = asyncio.create_task(_feed(command, stdin))
        writers = (stdout, stderr)[: len(command.outputs)]
        try:
            self._pumps = [
                asyncio.create_task(_pump(command, handle, writer))
                for handle, writer in zip(command.outputs, writers, strict=True)
            ]
            await _join(self._pumps)
            _report_end(channel, await command.ended)
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
            "SSH_CONNECTION": _connection_of(channel),
        }
        if self._terminal is None:
            return start_command(self._login, line, environment, self._children)
        return start_in_terminal(self._login, line, environment, self._terminal, self._children)


def _connection_of(channel: asyncssh.SSHServerChannel[bytes]) -> str:
    """Who came from where, as OpenSSH tells every session."""
    ends = (channel.get_extra_info("peername"), channel.get_extra_info("sockname"))
    return " ".join(f"{address} {port}" for address, port, *_ in ends)


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

    def __init__(self, login: Login, children: Children, authorized_keys: str) -> None:
        self._login = login
        self._children = children
        self._authorized_keys = authorized_keys
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        # For each login anew, as sshd does: this computer's key may be another one by now.
        assert self._connection is not None
        self._connection.set_authorized_keys(self._authorized_keys)
        return True

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
    asyncssh.read_authorized_keys(str(files.authorized_keys))  # Said now, if nobody could log in.
    key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        # OpenSSH's client says that its reader left only to a server of this name.
        server_version="OpenSSH_9.0_asyncssh",
        server_factory=lambda: _Server(login, children, str(files.authorized_keys)),
        server_host_keys=[key],
        public_key_auth=True,
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
    _end_descendants(children.reap)
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


def _end_descendants(reap: Callable[[], None]) -> None:
    """End all that was started here; as a subreaper we are still above every one of them. Not by
    the marker: once the guardian is gone, a new sandbox may be starting in this very place."""
    me = os.getpid()
    end_family(lambda: descendants({me}, list_processes()), timeout_s=_KILL_TIMEOUT_S, reap=reap)


async def _join(pumps: list[asyncio.Task[None]]) -> None:
    """Until all have ended; one that was cancelled because nobody reads is an end like any other.
    When we are cancelled ourselves, so are they."""
    try:
        await asyncio.wait(pumps)
    finally:
        for pump in pumps:
            pump.cancel()
        ended = await asyncio.gather(*pumps, return_exceptions=True)
    for result in ended:
        if isinstance(result, Exception):
            raise result


async def _feed(command: Command, stdin: asyncssh.SSHReader[bytes]) -> None:
    """Hand the client's input to the command. What it does not want any more is dropped."""
    wanted = True
    while data := await stdin.read(CHUNK):
        wanted = wanted and await write_all(command.stdin, data)
    # A terminal learns of the end of input by a character only, which is the client's to send.
    if not command.has_terminal:
        command.close(command.stdin)


async def _pump(command: Command, handle: int, writer: asyncssh.SSHWriter[bytes]) -> None:
    """Send what the command writes, no faster than the client takes it."""
    try:
        while data := await read_some(handle):
            writer.write(data)
            await writer.drain()
    finally:
        if not command.has_terminal:
            command.close(handle)


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


if __name__ == "__main__":
    main(sys.argv[1:])
