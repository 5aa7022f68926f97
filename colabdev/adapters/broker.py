"""The client's side of the keeper: asking it.

One socket per request on 127.0.0.1. After the handshake the client sends one frame
`{"op": …}` and gets one back: `{"ok": true, …}` or `{"error": {…}}`. After `agent` and `tcp` the socket
is the stream itself; after `exec` it carries frames until `{"exit": …}`.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from colabdev.adapters.agent_client import encode_request, parse_hello, read_answer
from colabdev.adapters.handshake import HandshakeFailed, prove_as_client
from colabdev.agent import wire
from colabdev.errors import ColabdevError, RuntimeUnreachable, error_from_json
from colabdev.models import AgentHello, ExitStatus, KeeperAddress, Output

CONNECT_TIMEOUT_S = 3.0
HUNG_AFTER_S = 3.0
REPLY_MARGIN_S = 10.0
_STDIN_CHUNK_BYTES = 256 * 1024


class KeeperUnavailable(RuntimeUnreachable):
    """Nobody who holds the key answers at the keeper's address."""

    def __init__(self, cause: object) -> None:
        super().__init__(
            f"the keeper of this runtime does not answer: {cause}",
            hint="type the command again; it starts another keeper",
        )


class KeeperSocket:
    """One authenticated connection to a keeper, as a stream of bytes and of frames."""

    def __init__(self, address: KeeperAddress) -> None:
        try:
            self._socket = socket.create_connection(("127.0.0.1", address.port), CONNECT_TIMEOUT_S)
        except OSError as exc:
            raise KeeperUnavailable(exc) from exc
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            prove_as_client(self._socket, bytes.fromhex(address.key))
        except (HandshakeFailed, OSError) as exc:
            self._socket.close()
            raise KeeperUnavailable(exc) from exc
        self._reader = self._socket.makefile("rb")

    def set_timeout(self, timeout_s: float | None) -> None:
        """TimeoutError when a later read or write takes longer."""
        self._socket.settimeout(timeout_s)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes, less only at the end."""
        return self._reader.read(count)

    def read_some(self, count: int) -> bytes:
        """What has arrived, at most `count` bytes; b"" at the end."""
        return self._reader.read1(count)

    def receive(self) -> wire.Frame | None:
        """The next frame, None at the end; a connection that breaks inside one has ended, too."""
        try:
            return wire.read_frame(self._reader.read)
        except (wire.WireError, ConnectionError):
            return None

    def has_input(self) -> bool:
        """Whether something arrived that nobody read, or the other side hung up."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            return bool(selector.select(0))

    def end_writing(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def hang_up(self) -> None:
        """End both directions; who reads or writes meanwhile sees the end. Safe in a signal handler."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # makefile holds the descriptor too: only a shutdown surely reaches the keeper.
        self.hang_up()
        with contextlib.suppress(OSError):
            self._reader.close()
        self._socket.close()


class KeeperClient:
    """`ports.Keeper`, and a `ports.Transport` to its runtime."""

    def __init__(self, name: str, address: KeeperAddress, *, own: bool = False) -> None:
        """`own`: the keeper itself asks, which is no use of the runtime."""
        self._name = name
        self._address = address
        self._own = own

    def link(self) -> Mapping[str, object]:
        connection, reply = self._ask("link", timeout_s=CONNECT_TIMEOUT_S)
        connection.close()
        return reply

    def wait_ready(self, timeout_s: float) -> AgentHello:
        connection, reply = self._ask("wait", timeout_s=timeout_s)
        connection.close()
        return parse_hello(reply["agent"])

    def agent(self, timeout_s: float = 30.0) -> KeeperAgent:
        connection, reply = self._ask("agent", timeout_s=timeout_s, own=self._own)
        return KeeperAgent(self._name, connection, parse_hello(reply["agent"]))

    def open(self, argv: Sequence[str], timeout_s: float = 30.0) -> KeeperProcess:
        """Start `argv` on the runtime; see `ports.Transport.open`."""
        connection, _ = self._ask("exec", timeout_s=timeout_s, argv=list(argv))
        return KeeperProcess(self._name, connection)

    def open_tcp(self, host: str, port: int, timeout_s: float = 30.0) -> KeeperSocket:
        """A byte stream to host:port as seen from the runtime."""
        connection, _ = self._ask("tcp", timeout_s=timeout_s, host=host, port=port)
        return connection

    def hold(self, job_id: str, variables: Mapping[str, str]) -> None:
        connection, _ = self._ask(
            "hold", timeout_s=CONNECT_TIMEOUT_S, job=job_id, env=dict(variables)
        )
        connection.close()

    def held(self, job_id: str) -> Mapping[str, str] | None:
        connection, reply = self._ask("held", timeout_s=CONNECT_TIMEOUT_S, job=job_id)
        connection.close()
        variables = reply.get("env")
        return variables if isinstance(variables, dict) else None

    def quit(self) -> None:
        with contextlib.suppress(KeeperUnavailable, ColabdevError):
            connection, _ = self._ask("quit", timeout_s=CONNECT_TIMEOUT_S)
            # The keeper hangs up as the last thing it does, unless it hangs.
            connection.set_timeout(HUNG_AFTER_S)
            with contextlib.suppress(OSError):
                connection.receive()
            connection.close()

    def _ask(
        self, op: str, *, timeout_s: float, **arguments: object
    ) -> tuple[KeeperSocket, dict[str, Any]]:
        connection = KeeperSocket(self._address)
        try:
            connection.set_timeout(timeout_s + REPLY_MARGIN_S)
            request = {"op": op, "timeout_s": timeout_s, **arguments}
            connection.send(wire.encode(request))
            frame = connection.receive()
            if frame is None:
                raise KeeperUnavailable("it hung up")
            header = frame[0]
            if isinstance(header.get("error"), dict):
                raise error_from_json(header["error"])
        except OSError as exc:
            connection.close()
            raise KeeperUnavailable(exc) from exc
        except BaseException:
            connection.close()
            raise
        connection.set_timeout(None)
        return connection, header


class KeeperAgent:
    """`ports.AgentStream` that a keeper handed out."""

    def __init__(self, name: str, connection: KeeperSocket, hello: AgentHello) -> None:
        self._name = name
        self._connection = connection
        self.hello = hello
        self.wire_bytes = 0

    def request(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> tuple[Mapping[str, object], bytes]:
        self.ask(kind, arguments, body)
        return self.answer(kind)

    def ask(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> None:
        try:
            self._send(encode_request(kind, arguments, body))
        except OSError as exc:
            raise cut_off(self._name) from exc

    def answer(self, kind: str) -> tuple[Mapping[str, object], bytes]:
        try:
            return read_answer(self._read, kind)
        except OSError as exc:
            raise cut_off(self._name) from exc

    def stream(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> Iterator[tuple[Mapping[str, object], bytes]]:
        try:
            yield self.request(kind, arguments, body)
            while True:
                yield read_answer(self._read, kind)
        except OSError as exc:
            raise cut_off(self._name) from exc

    def send(self, header: Mapping[str, object], body: bytes = b"") -> None:
        try:
            self._send(wire.encode(dict(header), body))
        except OSError as exc:
            raise cut_off(self._name) from exc

    def upload(
        self, kind: str, arguments: Mapping[str, object], frames: Iterable[wire.Frame]
    ) -> tuple[Mapping[str, object], bytes]:
        try:
            self._send(encode_request(kind, arguments))
            for header, body in frames:
                if self._connection.has_input():
                    break
                self._send(wire.encode(header, body))
            return read_answer(self._read, kind)
        except OSError as exc:
            raise cut_off(self._name) from exc

    def close(self) -> None:
        self._connection.close()

    def _send(self, data: bytes) -> None:
        self._connection.send(data)
        self.wire_bytes += len(data)

    def _read(self, count: int) -> bytes:
        data = self._connection.read(count)
        self.wire_bytes += len(data)
        return data


class KeeperProcess:
    """`ports.RemoteProcess` through a keeper."""

    def __init__(self, name: str, connection: KeeperSocket) -> None:
        self._name = name
        self._connection = connection
        self._status: ExitStatus | None = None

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            for start in range(0, len(view), _STDIN_CHUNK_BYTES):
                piece = bytes(view[start : start + _STDIN_CHUNK_BYTES])
                self._connection.send(wire.encode({"stdin": True}, piece))
        except OSError:
            # The reader learns from the frames whether the process ended or the way was cut.
            return

    def close_stdin(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(wire.encode({"eof": True}))

    def read(self, timeout_s: float | None = None) -> Output | None:
        if self._status is not None:
            return None
        self._connection.set_timeout(timeout_s)
        frame = self._connection.receive()
        if frame is None:
            raise cut_off(self._name)
        header, body = frame
        if "pipe" in header:
            return Output(str(header["pipe"]), body)
        if isinstance(header.get("error"), dict):
            raise error_from_json(header["error"])
        ended = header["exit"]
        self._status = ExitStatus(code=ended.get("code"), signal=ended.get("signal"))
        return None

    def wait(self, timeout_s: float | None = None) -> ExitStatus:
        while self._status is None:
            self.read(timeout_s)
        return self._status

    def close(self) -> None:
        self._connection.close()


def cut_off(name: str) -> RuntimeUnreachable:
    """The error for a stream that stopped short."""
    return RuntimeUnreachable(
        f"the connection to {name!r} was cut",
        hint="colabdev reconnects by itself; type the command again",
    )
