"""SSH: with `ssh_login` and `ssh_transport` the only modules that know paramiko.

paramiko checks no host key by itself, sets no TCP_NODELAY, does not notice a dead path and drops the
signal a process died of. All four are mended here, and its exceptions end here.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import paramiko

from colabdev.adapters.dial import dial
from colabdev.adapters.proxy_command import ProxySocket
from colabdev.adapters.pumps import OutputQueue
from colabdev.adapters.ssh_login import Login, OwnKey, UserKeys
from colabdev.adapters.ssh_transport import HeardSocket, Transport
from colabdev.core.quoting import quote_command
from colabdev.core.ssh_config import signature_algorithms
from colabdev.core.ssh_hosts import to_type
from colabdev.errors import ColabdevError, HostKeyMismatch, RuntimeUnreachable
from colabdev.models import ExitStatus, Output, SshAddress

DIAL_TIMEOUT_S = 10.0
HANDSHAKE_TIMEOUT_S = 15.0
CHANNEL_TIMEOUT_S = 15.0
PING_INTERVAL_S = 4.0
DEAD_AFTER_S = 11.0
"""With a ping every 4 s a live path is never silent for that long; a dead one is known within 15 s."""


class SessionRefused(ColabdevError):
    """The host has as many sessions as it allows on one connection."""


class SshConnection:
    """`ports.Transport` over one authenticated SSH connection with a pinned host key."""

    def __init__(
        self,
        address: SshAddress,
        key_file: Path,
        *,
        trusted: Sequence[str] = (),
        open_socket: Callable[[], socket.socket] | None = None,
    ) -> None:
        """Connect and log in. Raises `RuntimeUnreachable`, `HostKeyMismatch` or `AuthNeeded`.

        `trusted` are the keys any of which the server may show, when not the pinned one alone.
        `open_socket` leads there where neither dialling nor a command does.
        """
        self.address = address
        self._trusted = tuple(trusted) or (address.host_key,)
        self._open_socket = open_socket
        self._where = f"{address.host}:{address.port}"
        self._proxy: ProxySocket | None = None
        self._socket = HeardSocket(self._dial())
        try:
            self._transport = self._log_in(_login(address, key_file))
        except BaseException:
            self._socket.close()
            raise
        self._pinger = threading.Thread(target=self._ping, daemon=True)
        self._pinger.start()

    @property
    def host_key(self) -> str:
        """The key that the server showed, as an OpenSSH line."""
        shown = self._transport.get_remote_server_key()
        return f"{shown.get_name()} {shown.get_base64()}"

    @property
    def wire_bytes(self) -> int:
        """How many bytes went over it so far, both ways."""
        return self._socket.wire_bytes

    def open(self, argv: Sequence[str]) -> SshProcess:
        channel = self._open_channel("session")
        try:
            channel.exec_command(quote_command(argv).encode("utf-8"))
        except (paramiko.SSHException, EOFError, OSError) as exc:
            raise self._lost(exc) from exc
        return SshProcess(self, channel)

    def open_tcp(self, host: str, port: int) -> SshProcess:
        """A byte stream to host:port as seen from the runtime; it has stdin and stdout only."""
        try:
            channel = self._open_channel("direct-tcpip", (host, port))
        except paramiko.ChannelException as exc:
            raise ColabdevError(
                f"cannot reach {host}:{port} on the runtime: {exc}",
                hint="is something listening on that port there?",
            ) from exc
        return SshProcess(self, channel, pipes=("stdout",))

    def is_alive(self) -> bool:
        """The connection is open and something was heard on it lately."""
        return self._transport.is_active() and not self._is_silent()

    def wait_dead(self, timeout_s: float) -> bool:
        """Wait until the connection is dead, at most `timeout_s`; whether it is."""
        self._transport.join(min(timeout_s, 1.0))
        return not self.is_alive()

    def close(self) -> None:
        """End the connection and everything on it."""
        self._transport.close()
        self._socket.close()

    def lost(self) -> RuntimeUnreachable:
        """The error that explains why a stream on this connection stopped short."""
        return self._lost(None)

    def _dial(self) -> socket.socket | ProxySocket:
        if self._open_socket is not None:
            return self._open_socket()
        command = self.address.proxy_command
        try:
            if command is not None:
                self._proxy = ProxySocket(command)
                return self._proxy
            return dial(self.address.host, self.address.port, timeout_s=DIAL_TIMEOUT_S)
        except OSError as exc:
            raise RuntimeUnreachable(
                f"cannot reach {self._where}: {exc.strerror or exc}", hint=self._look_hint()
            ) from exc

    def _log_in(self, login: Login) -> Transport:
        login.prepare()
        transport = Transport(self._socket)  # type: ignore[arg-type]
        try:
            self._handshake(transport)
            login.log_in(transport, self.address.user, self._where)
        except (paramiko.SSHException, EOFError, OSError) as exc:
            transport.close()
            raise RuntimeUnreachable(
                f"lost the connection to {self._where} while logging in: {exc}",
                hint=self._look_hint(),
            ) from exc
        except BaseException:
            transport.close()
            raise
        return transport

    def _handshake(self, transport: Transport) -> None:
        transport.banner_timeout = HANDSHAKE_TIMEOUT_S
        transport.auth_timeout = HANDSHAKE_TIMEOUT_S
        options = transport.get_security_options()
        # Only the known kinds of key may be offered, else a server with several shows another one.
        known = {name for key in self._trusted for name in signature_algorithms(key)}
        usable = tuple(name for name in options.key_types if name in known)
        try:
            options.key_types = usable or tuple(known)
            transport.start_client(timeout=HANDSHAKE_TIMEOUT_S)
        except (paramiko.ssh_exception.IncompatiblePeer, ValueError) as exc:
            kinds = ", ".join(sorted({key.split()[0] for key in self._trusted}))
            raise HostKeyMismatch(
                f"{self._where} has no host key of the pinned kind {kinds} that can be used ({exc})",
                hint=self._mismatch_hint(),
            ) from exc
        except (paramiko.SSHException, EOFError, OSError) as exc:
            raise RuntimeUnreachable(
                f"cannot start SSH with {self._where}: {self._handshake_cause(exc)}",
                hint=self._look_hint(),
            ) from exc
        self._check_host_key(transport.get_remote_server_key())

    def _handshake_cause(self, exc: Exception) -> str:
        said = self._proxy.last_words() if self._proxy else ""
        if said:
            return said
        if "banner" in str(exc):
            return "it took the connection and said nothing; it hangs, or is no SSH server"
        return str(exc) or "it hung up"

    def _check_host_key(self, shown: paramiko.PKey) -> None:
        if shown.asbytes() not in {base64.b64decode(key.split()[1]) for key in self._trusted}:
            raise HostKeyMismatch(
                f"{self._where} shows another host key than the pinned one "
                f"(SHA256:{_fingerprint(shown)}): it may be another machine, or somebody in between",
                hint=self._mismatch_hint(),
            )

    def _mismatch_hint(self) -> str:
        if self.address.login is None:
            return "colabdev down, then colabdev connect, if you trust what runs there"
        return (
            f"compare it by ssh {to_type(self.address.login.host)}; once your known_hosts has the new "
            "key, colabdev connect takes it, too"
        )

    def _look_hint(self) -> str:
        if self.address.login is None:
            return "colabdev status says whether the runtime still exists"
        return f"look at it with: ssh {to_type(self.address.login.host)}"

    def _open_channel(self, kind: str, destination: tuple[str, int] | None = None) -> Any:
        try:
            return self._transport.open_channel(
                kind,
                dest_addr=destination,
                src_addr=("127.0.0.1", 0) if destination else None,
                timeout=CHANNEL_TIMEOUT_S,
            )
        except paramiko.ChannelException as exc:
            if destination:
                raise
            raise SessionRefused(
                f"{self._where} refuses another SSH session: {exc}",
                hint="it allows only so many at once (MaxSessions); end some, then try again",
            ) from exc
        except (paramiko.SSHException, EOFError, OSError) as exc:
            raise self._lost(exc) from exc

    def _ping(self) -> None:
        """Keep asking for an answer, so that silence means a dead path."""
        while self._transport.is_active():
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                self._transport.global_request("keepalive@openssh.com", wait=True)
            deadline = time.monotonic() + PING_INTERVAL_S
            while self._transport.is_active() and time.monotonic() < deadline:
                self._transport.join(deadline - time.monotonic())

    def _is_silent(self) -> bool:
        return time.monotonic() - self._socket.heard > DEAD_AFTER_S

    def _lost(self, exc: Exception | None) -> RuntimeUnreachable:
        cause = str(exc) if exc and str(exc) else "it was cut"
        if self._is_silent():
            cause = f"no answer for {DEAD_AFTER_S:.0f} s"
        return RuntimeUnreachable(
            f"lost the connection to {self._where}: {cause}",
            hint="colabdev reconnects by itself; type the command again",
        )


class SshProcess:
    """`ports.RemoteProcess` over one SSH channel."""

    def __init__(
        self,
        connection: SshConnection,
        channel: Any,
        pipes: Sequence[str] = ("stdout", "stderr"),
    ) -> None:
        self._connection = connection
        self._channel = channel
        readers = {"stdout": channel.recv, "stderr": channel.recv_stderr}
        self._output = OutputQueue({pipe: self._checked(readers[pipe]) for pipe in pipes})

    def write(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except OSError as exc:
            # A process that closed its stdin is not a lost connection: the rest is dropped, as a
            # pipe would drop it, and its output and status tell what happened.
            if not self._connection.is_alive():
                raise self._connection.lost() from exc

    def close_stdin(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def read(self, timeout_s: float | None = None) -> Output | None:
        return self._output.get(timeout_s)

    def wait(self, timeout_s: float | None = None) -> ExitStatus:
        if not self._channel.status_event.wait(timeout_s):
            raise TimeoutError(f"still running after {timeout_s} s")
        signal = getattr(self._channel, "exit_signal", None)
        if signal is not None:
            return ExitStatus(signal=signal)
        if self._channel.exit_status < 0:
            raise self._connection.lost()
        return ExitStatus(code=self._channel.exit_status)

    def is_idle(self) -> bool:
        """The process runs and has written nothing that was not read."""
        return self._output.is_silent() and not self._channel.closed

    def close(self) -> None:
        self._channel.close()
        self._output.close()

    def _checked(self, receive: Any) -> Any:
        """`receive`, telling the end of a pipe from the end of the connection."""

        def read(count: int) -> bytes:
            data: bytes = receive(count)
            # Not asked of the connection: paramiko closes the channels of one that was cut before it
            # says that it is. What really ended said so, by an end of file or by its status.
            if not data and not self._channel.eof_received and not self._has_status():
                raise self._connection.lost()
            return data

        return read

    def _has_status(self) -> bool:
        return self._channel.exit_status >= 0 or hasattr(self._channel, "exit_signal")


def _fingerprint(key: paramiko.PKey) -> str:
    return key.fingerprint.removeprefix("SHA256:")


def _login(address: SshAddress, key_file: Path) -> Login:
    return OwnKey(key_file) if address.login is None else UserKeys(address.login)
