"""The relay is an instrument: what it claims to do to a path is measured here."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.support.relay import Relay, RelayProcess

DEADLINE_S = 10.0


class Target:
    """A server on loopback; `behave` runs in a thread for each connection."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._behave(connection)

    def close(self) -> None:
        # Closing alone does not wake a thread that waits in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def echo(connection: socket.socket) -> None:
    """Send back what comes; end after the client ended."""
    try:
        while data := connection.recv(65536):
            connection.sendall(data)
    except OSError:
        pass


@pytest.fixture
def target() -> Iterator[Target]:
    """An echo server."""
    with closing(Target(echo)) as server:
        yield server


def dial(relay: Relay | RelayProcess) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", relay.port), timeout=DEADLINE_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def receive(client: socket.socket, n_bytes: int) -> bytes:
    """Exactly `n_bytes`, or fewer when the stream ends before."""
    data = bytearray()
    while len(data) < n_bytes and (piece := client.recv(n_bytes - len(data))):
        data += piece
    return bytes(data)


def ping(client: socket.socket) -> float:
    """How long one byte takes there and back."""
    begun = time.perf_counter()
    client.sendall(b"x")
    assert receive(client, 1) == b"x"
    return time.perf_counter() - begun


def shortest_ping(client: socket.socket, tries: int) -> float:
    """What the relay itself adds: a busy machine makes pings longer, and none shorter."""
    return min(ping(client) for _ in range(tries))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.002)


def is_silent(client: socket.socket, seconds: float) -> bool:
    return not select.select([client], [], [], seconds)[0]


@pytest.mark.parametrize("rtt_s", [0.02, 0.1])
def test_ping_takes_one_round_trip(target: Target, rtt_s: float) -> None:
    with Relay("127.0.0.1", target.port, rtt_s) as relay, dial(relay) as client:
        ping(client)
        shortest = shortest_ping(client, 9)
    assert rtt_s * 0.9 <= shortest <= rtt_s * 1.1


def test_new_connection_costs_its_handshake(target: Target) -> None:
    def first_ping(relay: Relay) -> float:
        begun = time.perf_counter()
        with dial(relay) as client:
            ping(client)
        return time.perf_counter() - begun

    with Relay("127.0.0.1", target.port, 0.1) as relay:
        assert 0.18 <= min(first_ping(relay) for _ in range(3)) <= 0.22


def test_without_delay_a_ping_is_immediate(target: Target) -> None:
    with Relay("127.0.0.1", target.port) as relay, dial(relay) as client:
        assert shortest_ping(client, 20) < 0.005


def bulk_up(client: socket.socket, n_bytes: int) -> None:
    client.sendall(bytes(n_bytes))
    client.shutdown(socket.SHUT_WR)


def test_cap_holds_for_one_connection_at_100_ms(target: Target) -> None:
    n_bytes = 2_000_000
    with Relay("127.0.0.1", target.port, 0.1, 20e6) as relay, dial(relay) as client:
        ping(client)
        sender = threading.Thread(target=bulk_up, args=(client, n_bytes))
        begun = time.perf_counter()
        sender.start()
        assert len(receive(client, n_bytes)) == n_bytes
        took = time.perf_counter() - begun - 0.1
        sender.join()
    assert 18e6 <= n_bytes * 8 / took <= 22e6


def test_cap_is_shared_fairly_by_all_connections(target: Target) -> None:
    n_bytes = 1_000_000
    ended: list[float] = []

    def transfer(client: socket.socket) -> None:
        sender = threading.Thread(target=bulk_up, args=(client, n_bytes))
        sender.start()
        assert len(receive(client, n_bytes)) == n_bytes
        ended.append(time.perf_counter())
        sender.join()

    with (
        Relay("127.0.0.1", target.port, 0.0, 20e6) as relay,
        dial(relay) as one,
        dial(relay) as other,
        dial(relay) as small,
    ):
        threads = [threading.Thread(target=transfer, args=(each,)) for each in (one, other)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        wait_for(lambda: relay.bytes_up > 100_000)
        # A third connection does not stand in line behind all that the two have queued.
        small_ping = ping(small)
        for thread in threads:
            thread.join()
    first, last = (moment - begun for moment in sorted(ended))
    assert 18e6 <= 2 * n_bytes * 8 / last <= 22e6
    assert first > 0.85 * last
    assert small_ping < 0.05


def test_delay_does_not_limit_throughput(target: Target) -> None:
    n_bytes = 16_000_000
    with RelayProcess("127.0.0.1", target.port, 0.1) as relay, dial(relay) as client:
        ping(client)
        sender = threading.Thread(target=bulk_up, args=(client, n_bytes))
        begun = time.perf_counter()
        sender.start()
        assert len(receive(client, n_bytes)) == n_bytes
        took = time.perf_counter() - begun
        sender.join()
    # With a window of 1 MB this would take 1.6 s and more.
    assert took < 1.0


def test_half_close_is_passed_on(target: Target) -> None:
    with Relay("127.0.0.1", target.port, 0.02) as relay, dial(relay) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert receive(client, 100) == b"last words"


def test_back_pressure_reaches_the_sender() -> None:
    release = threading.Event()

    def sleepy(connection: socket.socket) -> None:
        release.wait(DEADLINE_S)
        echo(connection)

    with (
        closing(Target(sleepy)) as target,
        Relay("127.0.0.1", target.port) as relay,
        dial(relay) as client,
    ):
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(200_000_000))
        release.set()


def test_cut_is_seen_at_both_ends() -> None:
    seen: list[BaseException] = []

    def listen(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        try:
            connection.recv(1)
        except OSError as exc:
            seen.append(exc)

    with closing(Target(listen)) as target, Relay("127.0.0.1", target.port) as relay:
        with dial(relay) as client:
            assert receive(client, 5) == b"hello"
            assert relay.cut() == 1
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        wait_for(lambda: bool(seen))
        assert relay.cuts == 1
        assert relay.cut() == 0
        assert relay.cuts == 1
    assert isinstance(seen[0], ConnectionResetError)


def test_reset_by_one_end_reaches_the_other() -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.recv(1)  # Closing with the rest unread sends a reset.

    with closing(Target(hang_up)) as target, Relay("127.0.0.1", target.port, 0.02) as relay:
        with dial(relay) as client:
            client.sendall(b"unread")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert relay.cuts == 0


def test_unreachable_target_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with (
        Relay("127.0.0.1", port, 0.02) as relay,
        dial(relay) as client,
        pytest.raises(ConnectionResetError),
    ):
        client.recv(1)


def test_cut_after_cuts_at_that_very_byte() -> None:
    received = bytearray()

    def collect(connection: socket.socket) -> None:
        try:
            while data := connection.recv(65536):
                received.extend(data)
        except OSError:
            pass

    with closing(Target(collect)) as target, Relay("127.0.0.1", target.port) as relay:
        with dial(relay) as client:
            client.sendall(bytes(1000))
            wait_for(lambda: relay.bytes_up == 1000)
            relay.cut_after(12_345)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                client.sendall(bytes(50_000_000))
        wait_for(lambda: len(received) >= 13_345)
        assert (relay.bytes_up, relay.cuts) == (13_345, 1)
    assert len(received) == 13_345


@pytest.mark.parametrize("bits_per_s", [None, 50e6])
def test_freeze_stops_everything_and_thaw_loses_nothing(
    target: Target, bits_per_s: float | None
) -> None:
    data = os.urandom(1_000_000)
    with Relay("127.0.0.1", target.port, 0.02, bits_per_s) as relay, dial(relay) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        received = receive(client, 50_000)
        relay.freeze()
        time.sleep(0.02)
        while not is_silent(client, 0.0):
            received += client.recv(65536)  # What was in the kernel already.
        frozen_at = relay.counters()
        assert is_silent(client, 0.2)
        assert relay.counters() == frozen_at
        relay.thaw()
        received += receive(client, len(data) - len(received))
        sender.join()
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
    assert (relay.bytes_up, relay.bytes_down) == (len(data), len(data))


def test_connection_made_while_frozen_works_after_thaw(target: Target) -> None:
    with Relay("127.0.0.1", target.port) as relay:
        relay.freeze()
        with dial(relay) as client:
            client.sendall(b"x")
            assert is_silent(client, 0.1)
            assert relay.connections == 0
            relay.thaw()
            assert receive(client, 1) == b"x"


def test_refuse_turns_clients_away_and_accept_keeps_the_port(target: Target) -> None:
    with Relay("127.0.0.1", target.port) as relay:
        port = relay.port
        with dial(relay) as old:
            ping(old)
            relay.refuse()
            # Many tries: one of them must not end up connected to itself.
            for _ in range(200):
                with pytest.raises(ConnectionRefusedError):
                    dial(relay)
            ping(old)
        relay.accept()
        assert relay.port == port
        with dial(relay) as client:
            ping(client)


def test_counters_count_bytes_and_connections(target: Target) -> None:
    with Relay("127.0.0.1", target.port) as relay:
        for _ in range(3):
            with dial(relay) as client:
                client.sendall(bytes(500))
                receive(client, 500)
        wanted = {"bytes_up": 1500, "bytes_down": 1500, "connections": 3, "cuts": 0}
        assert relay.counters() == wanted


def test_process_form_takes_actions_and_ends_with_its_stdin(target: Target) -> None:
    with RelayProcess("127.0.0.1", target.port, 0.05, 20e6) as relay:
        with dial(relay) as client:
            ping(client)
            assert 0.045 <= shortest_ping(client, 9) <= 0.055
            assert relay.do("cut")["cuts"] == 1
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        relay.do("refuse")
        with pytest.raises(ConnectionRefusedError):
            dial(relay)
    with pytest.raises(ConnectionRefusedError):
        dial(relay)
