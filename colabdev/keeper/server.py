"""The keeper's door: a socket on 127.0.0.1, open to who holds the key."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, TypeVar

from colabdev.adapters.handshake import HandshakeFailed, prove_as_keeper
from colabdev.adapters.ssh import SessionRefused, SshConnection
from colabdev.agent import wire
from colabdev.core.times import format_time
from colabdev.crash_points import crash_point
from colabdev.errors import ColabdevError, ProtocolError, RuntimeUnreachable
from colabdev.keeper.held import HeldSecrets
from colabdev.keeper.link import Link, LinkState
from colabdev.keeper.spares import Agent, AgentSpares
from colabdev.keeper.streams import carry_process, hang_up, splice
from colabdev.models import AgentHello

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 5.0
GIVE_WAY_S = 3.0
_GIVE_WAY_POLL_S = 0.05
_ACCEPT_TIMEOUT_S = 1.0
_USES = ("agent", "exec", "tcp")

Request = Mapping[str, Any]
Got = TypeVar("Got")


class KeeperServer:
    """Answers one request per connection; each in a thread of its own."""

    def __init__(self, key: bytes, link: Link[SshConnection], spares: AgentSpares) -> None:
        self._key = key
        self._link = link
        self._spares = spares
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.settimeout(_ACCEPT_TIMEOUT_S)
        self._quitting: list[socket.socket] = []
        self._own: set[socket.socket] = set()
        """The streams that the keeper has of itself."""
        self._own_asked = float("-inf")
        """When one of those last came or went."""
        self._uses = 0
        self._last_use = time.monotonic()
        self._counting = threading.Lock()
        self.secrets = HeldSecrets()
        self.notice: Callable[[], str] = lambda: ""
        """What the user should hear of a runtime that is ready."""
        self.port: int = self._listener.getsockname()[1]

    def run(self, every_second: Callable[[], bool]) -> None:
        """Serve until `quit` is asked or `every_second` says False."""
        with self._listener:
            while not self._stopping.is_set() and every_second():
                try:
                    client, _ = self._listener.accept()
                except TimeoutError:
                    continue
                except OSError as exc:
                    # Too many files open, or a client that left in the queue: the others go on.
                    log.warning("cannot take a client: %s", exc)
                    self._stopping.wait(_ACCEPT_TIMEOUT_S)
                    continue
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def stop(self) -> None:
        """Let `run` return at its next second."""
        self._stopping.set()

    def farewell(self) -> None:
        """Tell those who asked for the end that it is done, by hanging up."""
        for client in self._quitting:
            client.close()

    @property
    def idle_s(self) -> float:
        """How long nobody has used the runtime through us."""
        with self._counting:
            return 0.0 if self._uses else time.monotonic() - self._last_use

    @contextlib.contextmanager
    def _used(self, request: Request) -> Iterator[None]:
        """What the keeper asks of itself is no use, nor is asking how things stand."""
        counts = request.get("op") in _USES and not request.get("own")
        with self._counting:
            self._uses += counts
        try:
            yield
        finally:
            with self._counting:
                self._uses -= counts
                self._last_use = time.monotonic() if counts else self._last_use

    def _serve(self, client: socket.socket) -> None:
        reader: BinaryIO | None = None
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(HANDSHAKE_TIMEOUT_S)
            prove_as_keeper(client, self._key)
            reader = client.makefile("rb")
            frame = wire.read_frame(reader.read)
            client.settimeout(None)
            if frame is not None:
                self._answer(client, reader, frame[0])
        except (HandshakeFailed, wire.WireError, OSError) as exc:
            log.info("a client was turned away or left: %s", exc)
        except Exception:  # The boundary of one request: a bug in it must not end the others.
            log.exception("bug while serving a request")
        finally:
            if client not in self._quitting:
                hang_up(client)
                if reader is not None:
                    # It holds the socket open as long as anything holds it, an exception's frames say; a
                    # client that still sends would wait for ever for somebody to read.
                    reader.close()
                client.close()

    def _answer(self, client: socket.socket, reader: BinaryIO, request: Request) -> None:
        handlers = {
            "link": self._answer_link,
            "wait": self._answer_wait,
            "agent": self._hand_out_agent,
            "exec": self._open_process,
            "tcp": self._open_tcp,
            "hold": self._hold,
            "held": self._tell_held,
            "quit": self._quit,
        }
        handler = handlers.get(str(request.get("op")))
        try:
            if handler is None:
                raise ProtocolError(f"the keeper knows no request {request.get('op')!r}")
            with self._used(request):
                handler(client, reader, request)
        except ColabdevError as exc:
            client.sendall(wire.encode({"error": exc.to_json()}))

    def _answer_link(self, client: socket.socket, reader: BinaryIO, request: Request) -> None:
        state, error = self._link.state, self._link.error
        if state is LinkState.READY and self._spares.hello is None:
            state, error = LinkState.CONNECTING, self._spares.error
        answer = {
            "ok": True,
            "state": state.value,
            "since": format_time(self._link.since),
            "reason": error.to_json() if error else None,
            "notice": self.notice(),
        }
        client.sendall(wire.encode(answer))

    def _answer_wait(self, client: socket.socket, reader: BinaryIO, request: Request) -> None:
        self._link.try_now()
        hello = self._connected(request, lambda _, left_s: self._spares.peek(left_s))
        client.sendall(wire.encode(_greeting(hello)))

    def _hand_out_agent(self, client: socket.socket, reader: BinaryIO, request: Request) -> None:
        is_own = bool(request.get("own"))
        if is_own:
            self._own_asked = time.monotonic()
        agent = self._with_room(lambda: self._take_agent(request), is_own=is_own)
        if is_own:
            with self._counting:
                self._own.add(client)
        try:
            self._lend(client, reader, agent)
        finally:
            with self._counting:
                self._own.discard(client)
            if is_own:
                self._own_asked = time.monotonic()

    def _take_agent(self, request: Request) -> Agent:
        return self._connected(request, lambda _, left_s: self._spares.take(left_s))

    def _lend(self, client: socket.socket, reader: BinaryIO, agent: Agent) -> None:
        try:
            client.sendall(wire.encode(_greeting(agent.hello)))
        except OSError:
            agent.process.close()
            raise
        crash_point("keeper.asked")
        splice(client, reader, agent.process)

    def _with_room(self, get: Callable[[], Got], *, is_own: bool = False) -> Got:
        """What `get()` gives. Where the host allows few sessions, what the keeper asks for itself gives
        way to everybody else, and tries again later."""
        give_up = time.monotonic() + GIVE_WAY_S
        made_room = False
        while True:
            try:
                return get()
            except SessionRefused:
                with self._counting:
                    own = list(self._own)
                # One of ours that comes or goes just now has a session, too.
                is_near = time.monotonic() - self._own_asked < GIVE_WAY_S
                made_room = made_room or is_near or bool(own)
                if is_own or not made_room or time.monotonic() > give_up:
                    raise
                for client in own:
                    hang_up(client)
                time.sleep(_GIVE_WAY_POLL_S)

    def _connected(self, request: Request, get: Callable[[SshConnection, float], Got]) -> Got:
        """What `get(connection, seconds left)` gives; asked again over the next connection when this
        one breaks meanwhile, as long as the request's time is not up."""
        deadline = time.monotonic() + _timeout(request)
        while True:
            connection = self._link.connection(_left(deadline))
            try:
                return get(connection, _left(deadline))
            except RuntimeUnreachable:
                # A broken connection may say so a moment after what stood on it.
                if not connection.wait_dead(_left(deadline)):
                    raise

    def _open_process(self, client: socket.socket, reader: BinaryIO, request: Request) -> None:
        # Never tried twice: it may have started before the connection broke.
        connection = self._link.connection(_timeout(request))
        argv = [str(argument) for argument in request["argv"]]
        process = self._with_room(lambda: connection.open(argv))
        client.sendall(wire.encode({"ok": True}))
        carry_process(client, reader, process)

    def _open_tcp(self, client: socket.socket, reader: BinaryIO, request: Request) -> None:
        host, port = str(request["host"]), int(request["port"])
        stream = self._connected(request, lambda connection, _: connection.open_tcp(host, port))
        client.sendall(wire.encode({"ok": True}))
        splice(client, reader, stream)

    def _hold(self, client: socket.socket, reader: BinaryIO, request: Request) -> None:
        variables = {str(name): str(value) for name, value in dict(request["env"]).items()}
        self.secrets.hold(str(request["job"]), variables)
        client.sendall(wire.encode({"ok": True}))

    def _tell_held(self, client: socket.socket, reader: BinaryIO, request: Request) -> None:
        variables = self.secrets.held(str(request["job"]))
        client.sendall(wire.encode({"ok": True, "env": variables and dict(variables)}))

    def _quit(self, client: socket.socket, reader: BinaryIO, request: Request) -> None:
        client.sendall(wire.encode({"ok": True}))
        self._quitting.append(client)
        self.stop()
        # The accept loop looks up once a second; a connection makes it look now.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()


def _greeting(hello: AgentHello) -> dict[str, Any]:
    return {
        "ok": True,
        "agent": {"protocol": hello.protocol, "python": hello.python, "pid": hello.pid},
    }


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.0)


def _timeout(request: Request) -> float:
    return min(float(request.get("timeout_s", 30.0)), 3600.0)
