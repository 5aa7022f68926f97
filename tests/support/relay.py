"""A loopback TCP relay that behaves like a long, narrow and unreliable path.

    client ─► up:   waiting ─► link (cap, shared) ─► line (rtt/2) ─► target
    client ◄─ down: line (rtt/2) ◄─ link (cap, shared) ◄─ waiting ◄─ target

A new connection behaves as after a TCP handshake over that path: what the client sends arrives
after 1.5 round trips, and what the server says at once arrives after 2. (The client's `connect`
itself returns at once, because the kernel answers it here.)

`Relay` runs in a thread of its own. `RelayProcess`, and `python -m tests.support.relay`, run it in
a process of its own, so that a measurement does not share its interpreter lock with the relay.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

_Result = TypeVar("_Result")

READ_BYTES = 64 * 1024
LINE_BYTES = 16 * 1024 * 1024
"""In flight per connection and direction: a bound on memory that allows 2 Gbit/s at 100 ms."""
WAITING_BYTES = 256 * 1024
"""Waiting for a capped link per connection and direction: what a router's queue would hold."""
HARD_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
"""The SO_LINGER value with which closing a socket sends a reset."""


class Relay:
    """A path to `target_host:target_port`; use it as a context manager, connect to `port`.

    `rtt_s` is the round trip time, half of it in each direction. `bits_per_s` caps each direction,
    for all connections together and fairly among them. Every method may be called from any thread
    and has taken effect when it returns.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        rtt_s: float = 0.0,
        bits_per_s: float | None = None,
    ) -> None:
        # select(), because epoll's timers count in whole milliseconds. It serves some hundreds of
        # connections. Windows' default loop could not watch plain sockets at all.
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._bugs: list[dict[str, Any]] = []
        self._loop.set_exception_handler(lambda _, context: self._bugs.append(context))
        target = socket.getaddrinfo(target_host, target_port, type=socket.SOCK_STREAM)[0]
        self._path = _Path(self._loop, (target[0], target[4]), rtt_s, bits_per_s)
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self.port = self._path.port

    def __enter__(self) -> Relay:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._path.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._bugs:
            raise AssertionError(f"the relay itself failed: {self._bugs}")

    @property
    def bytes_up(self) -> int:
        """Bytes handed to the target so far."""
        return self.counters()["bytes_up"]

    @property
    def bytes_down(self) -> int:
        """Bytes handed to clients so far."""
        return self.counters()["bytes_down"]

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return self.counters()["connections"]

    @property
    def cuts(self) -> int:
        """How often a cut hit at least one live connection."""
        return self.counters()["cuts"]

    def counters(self) -> dict[str, int]:
        """All counters by name, never behind what an end of a connection has seen already."""
        if self._thread.is_alive():
            return self._do(self._path.counters)
        return self._path.counters()

    def cut(self) -> int:
        """Reset every live connection, at both ends and now; returns how many there were."""
        return self._do(self._path.cut)

    def cut_after(self, n_bytes: int) -> None:
        """Cut at the very byte when `n_bytes` more went through, both directions together."""
        if n_bytes < 1:
            raise ValueError("cut_after counts bytes to come, at least one; cut() is for now")
        self._do(lambda: self._path.set_budget(n_bytes))

    def refuse(self) -> None:
        """Refuse new connections; those that exist live on."""
        self._do(self._path.refuse)

    def accept(self) -> None:
        """Accept connections (again), on the same port."""
        self._do(self._path.accept)

    def freeze(self) -> None:
        """Let nothing through any more, in silence: no end of a connection is told."""
        self._do(self._path.freeze)

    def thaw(self) -> None:
        """Let everything through again, beginning with what was held back; no byte is lost."""
        self._do(self._path.thaw)

    def stretch(self, rtt_s: float) -> None:
        """Make the path that long, for what is sent from now on."""

        def stretch() -> None:
            self._path.rtt_s = rtt_s

        self._do(stretch)

    def _do(self, action: Callable[[], _Result]) -> _Result:
        async def act() -> _Result:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(timeout=30)


class _Path:
    """The state of a relay. Every method but the constructor runs on the relay's loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        target: tuple[int, Any],
        rtt_s: float,
        bits_per_s: float | None,
    ) -> None:
        self.loop = loop
        self.target_family, self.target_address = target
        self.rtt_s = rtt_s
        self.capped = bits_per_s is not None
        self.up = _Link(self, bits_per_s)
        self.down = _Link(self, bits_per_s)
        self.live: set[_Connection] = set()
        self.frozen = False
        self.accepted = 0
        self.cuts = 0
        self.budget: int | None = None
        self._held_back: list[Callable[[], None]] = []
        self._listener: socket.socket | None = None
        self._holder = socket.socket()
        self.port = self._reserve_port()

    def _reserve_port(self) -> int:
        # The holder is bound and never listens. It keeps the port ours while we refuse, and keeps
        # the kernel from using the port as the source of a client's connection to it: a client that
        # retries a free loopback port often enough ends up connected to itself.
        if os.name == "posix":
            self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        port: int = self._holder.getsockname()[1]
        if sys.platform != "linux":
            # Elsewhere a second socket cannot be bound beside the holder.
            self._holder.close()
        return port

    def accept(self) -> None:
        if self._listener is not None:
            return
        self._listener = socket.socket()
        if os.name == "posix":
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._narrow(self._listener)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(128)
        self._listener.setblocking(False)
        if not self.frozen:
            self.loop.add_reader(self._listener, self._on_client, self._listener)

    def refuse(self) -> None:
        if self._listener is None:
            return
        self.loop.remove_reader(self._listener)
        self._listener.close()
        self._listener = None

    def _on_client(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # The client was gone before we came to it.
        server = socket.socket(self.target_family)
        self._narrow(server)
        self.accepted += 1
        self.live.add(_Connection(self, client, server))

    def _narrow(self, sock: socket.socket) -> None:
        # Left alone, the kernel's receive buffer grows to megabytes in front of a capped link:
        # seconds of queue that no real path has. An accepted socket inherits its listener's size.
        if self.capped:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WAITING_BYTES)

    def freeze(self) -> None:
        self.frozen = True
        if self._listener is not None:
            self.loop.remove_reader(self._listener)
        for connection in self.live:
            connection.pause()

    def thaw(self) -> None:
        self.frozen = False
        if self._listener is not None:
            self.loop.add_reader(self._listener, self._on_client, self._listener)
        held_back, self._held_back = self._held_back, []
        for action in held_back:
            action()
        self.up.wake()
        self.down.wake()
        for connection in list(self.live):
            connection.resume()

    def when_thawed(self, action: Callable[[], None]) -> None:
        """Do `action` now, or as soon as the path is not frozen."""
        if self.frozen:
            self._held_back.append(action)
        else:
            action()

    def cut(self) -> int:
        hit = list(self.live)
        for connection in hit:
            connection.close(hard=True)
        self.cuts += bool(hit)
        return len(hit)

    def counters(self) -> dict[str, int]:
        return {
            "bytes_up": self.up.passed,
            "bytes_down": self.down.passed,
            "connections": self.accepted,
            "cuts": self.cuts,
        }

    def set_budget(self, n_bytes: int) -> None:
        self.budget = n_bytes

    def spend(self, n_bytes: int) -> None:
        """Count bytes that went through; cuts when they were the last of the budget."""
        if self.budget is None:
            return
        self.budget -= n_bytes
        if self.budget <= 0:
            self.budget = None
            self.cut()

    def close(self) -> None:
        self.refuse()
        self._holder.close()
        for connection in list(self.live):
            connection.close(hard=True)


class _Link:
    """One direction of the bottleneck: the flows take turns of a millisecond's worth each."""

    def __init__(self, path: _Path, bits_per_s: float | None) -> None:
        self.passed = 0
        self._path = path
        self._bytes_per_s = None if bits_per_s is None else bits_per_s / 8
        self._turns: deque[_Flow] = deque()
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def send(self, flow: _Flow) -> None:
        """Called by a flow when it has something waiting and is not in the queue yet."""
        if self._bytes_per_s is None:
            while flow.waiting:
                flow.put_on_line(flow.take(READ_BYTES), self._path.loop.time())
            return
        self._turns.append(flow)
        self.wake()

    def wake(self) -> None:
        if self._turns and self._timer is None:
            # An idle link saves up nothing.
            self._free_at = max(self._free_at, self._path.loop.time())
            self._serve()

    def _serve(self) -> None:
        """Let pass what the time up to now allows. A late timer costs no throughput, because the
        time at which the link is free again is counted on from the last one, not from now."""
        self._timer = None
        if self._path.frozen or self._bytes_per_s is None:
            return
        now = self._path.loop.time()
        quantum = max(1448, int(self._bytes_per_s / 1000))
        while self._turns and self._free_at <= now:
            flow = self._turns.popleft()
            if not flow.waiting:
                continue  # Closed meanwhile.
            chunk = flow.take(quantum)
            self._free_at += len(chunk) / self._bytes_per_s
            flow.put_on_line(chunk, self._free_at)
            if flow.waiting:
                self._turns.append(flow)
        if self._turns:
            self._timer = self._path.loop.call_at(self._free_at, self._serve)


class _Flow:
    """One direction of one connection. An empty chunk is the end of the stream, in its place."""

    def __init__(
        self, connection: _Connection, link: _Link, source: socket.socket, sink: socket.socket
    ) -> None:
        self.waiting: deque[bytes] = deque()
        self.done = False
        self.sink_ready = False
        self._source_open = False
        self._reading = False
        self._blocked = False
        self._line: deque[tuple[float, bytes]] = deque()
        self._waiting_bytes = 0
        self._line_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._connection = connection
        self._path = connection.path
        self._link = link
        self._source = source
        self._sink = sink

    def open_source(self) -> None:
        self._source_open = True
        self.settle()

    def settle(self) -> None:
        """Read from the source exactly while there is room and the path is alive."""
        room = self._waiting_bytes < WAITING_BYTES and self._line_bytes < LINE_BYTES
        read = self._source_open and room and not self._path.frozen and not self._connection.closed
        if read and not self._reading:
            self._path.loop.add_reader(self._source, self._on_readable)
        elif self._reading and not read:
            self._path.loop.remove_reader(self._source)
        self._reading = read

    def _on_readable(self) -> None:
        try:
            chunk = self._source.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._source_open = False
            self.settle()
            self._connection.fail()
            return
        if not chunk:
            self._source_open = False
        self.waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        if len(self.waiting) == 1:
            self._link.send(self)
        self.settle()

    def take(self, limit: int) -> bytes:
        """The next piece that waits for the link."""
        chunk = self.waiting.popleft()
        if len(chunk) > limit:
            self.waiting.appendleft(chunk[limit:])
            chunk = chunk[:limit]
        self._waiting_bytes -= len(chunk)
        return chunk

    def put_on_line(self, chunk: bytes, sent_at: float) -> None:
        self._line.append((sent_at + self._path.rtt_s / 2, chunk))
        self._line_bytes += len(chunk)
        if self._timer is None and not self._blocked:
            self.deliver()

    def deliver(self) -> None:
        """Hand over what is due, then wait until the next piece is, or until the sink drains."""
        self._timer = None
        now = self._path.loop.time()
        while self._line and self.sink_ready and not self._held:
            due, chunk = self._line[0]
            if due > now:
                self._timer = self._path.loop.call_at(due, self.deliver)
                break
            self._hand_over(chunk)
        self.settle()

    @property
    def _held(self) -> bool:
        return self._blocked or self._path.frozen or self._connection.closed

    def _hand_over(self, chunk: bytes) -> None:
        try:
            if not chunk:
                self._line.popleft()
                self._sink.shutdown(socket.SHUT_WR)
                self.done = True
                self._connection.on_flow_done()
                return
            sent = self._sink.send(chunk[: self._path.budget])
        except BlockingIOError:
            self._blocked = True
            self._path.loop.add_writer(self._sink, self._on_writable)
            return
        except OSError:
            self.sink_ready = False
            self._connection.fail()
            return
        self._line_bytes -= sent
        due, _ = self._line.popleft()
        if sent < len(chunk):
            self._line.appendleft((due, chunk[sent:]))
        self._link.passed += sent
        self._path.spend(sent)

    def _on_writable(self) -> None:
        self._path.loop.remove_writer(self._sink)
        self._blocked = False
        self.deliver()

    def pause(self) -> None:
        """The path froze, or the connection is closed: touch neither socket any more."""
        if self._blocked:
            self._path.loop.remove_writer(self._sink)
            self._blocked = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.settle()


class _Connection:
    """A client's connection and the one to the target that belongs to it."""

    def __init__(self, path: _Path, client: socket.socket, server: socket.socket) -> None:
        self.path = path
        self.closed = False
        self._failed = False
        self._client = client
        self._server = server
        self._up = _Flow(self, path.up, client, server)
        self._down = _Flow(self, path.down, server, client)
        self._down.sink_ready = True
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The handshake: the client may send once its SYN was answered, and the server sees the
        # connection when the answer to that arrived.
        self._later(path.rtt_s, self._up.open_source)
        self._later(path.rtt_s * 1.5, self._connect)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        def act() -> None:
            if not self.closed:
                action()

        self.path.loop.call_later(delay_s, self.path.when_thawed, act)

    def _connect(self) -> None:
        self._server.connect_ex(self.path.target_address)
        self.path.loop.add_writer(self._server, self._on_connected)

    def _on_connected(self) -> None:
        self.path.loop.remove_writer(self._server)
        if self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.fail()
            return
        self._up.sink_ready = True
        self._down.open_source()
        self._up.deliver()

    def fail(self) -> None:
        """One end is gone; the other is told with a reset, after what was on the way to it."""
        if not self._failed:
            self._failed = True
            self._later(self.path.rtt_s / 2, lambda: self.close(hard=True))

    def on_flow_done(self) -> None:
        if self._up.done and self._down.done:
            self.close(hard=False)

    def pause(self) -> None:
        self._up.pause()
        self._down.pause()

    def resume(self) -> None:
        self._up.deliver()
        self._down.deliver()

    def close(self, *, hard: bool) -> None:
        if self.closed:
            return
        self.closed = True
        self.path.live.discard(self)
        self.pause()
        for sock in (self._client, self._server):
            self.path.loop.remove_reader(sock)
            self.path.loop.remove_writer(sock)
            if hard:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HARD_CLOSE)
            sock.close()
        self._up.waiting.clear()
        self._down.waiting.clear()


class RelayProcess:
    """A relay in a process of its own: the same actions, asked for over its stdin."""

    def __init__(
        self,
        target_host: str,
        target_port: int,
        rtt_s: float = 0.0,
        bits_per_s: float | None = None,
    ) -> None:
        self._argv = [sys.executable, "-m", "tests.support.relay"]
        self._argv += ["--target", f"{target_host}:{target_port}", "--rtt-ms", str(rtt_s * 1000)]
        if bits_per_s is not None:
            self._argv += ["--mbit", str(bits_per_s / 1e6)]

    def __enter__(self) -> RelayProcess:
        self._process = subprocess.Popen(
            self._argv,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port: int = self._answer()["port"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)

    def do(self, action: str, *arguments: int) -> dict[str, int]:
        """Do `action` (a method of `Relay`, or `counters` for none) and return all counters."""
        assert self._process.stdin is not None
        print(action, *arguments, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        return answer


ACTIONS = ("cut", "cut_after", "refuse", "accept", "freeze", "thaw", "counters")


def main() -> None:
    """Serve until stdin ends. Each line there is an action of `ACTIONS` and is answered in JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--target", required=True, metavar="HOST:PORT")
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    parser.add_argument("--mbit", type=float, default=None, help="cap of each direction")
    options = parser.parse_args()
    host, _, port = options.target.rpartition(":")
    bits_per_s = None if options.mbit is None else options.mbit * 1e6
    with Relay(host, int(port), options.rtt_ms / 1000, bits_per_s) as relay:
        print(json.dumps({"port": relay.port}), flush=True)
        for line in sys.stdin:
            action, *arguments = line.split()
            if action not in ACTIONS:
                raise SystemExit(f"unknown action: {action}")
            getattr(relay, action)(*map(int, arguments))
            print(json.dumps(relay.counters()), flush=True)


if __name__ == "__main__":
    main()
