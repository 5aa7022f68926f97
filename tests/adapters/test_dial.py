"""A connection as soon as there is one, and an error as soon as there cannot be."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from colabdev.adapters.dial import dial


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


@pytest.fixture
def black_hole() -> Iterator[socket.socket]:
    """A listener whose backlog is full: like a host behind a dead path it answers nothing."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        listener.settimeout(10)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener


def test_listener_is_reached_with_nodelay(listener: socket.socket) -> None:
    with dial("127.0.0.1", port_of(listener), timeout_s=5) as connection:
        accepted, _ = listener.accept()
        with accepted:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            assert connection.getblocking()
            accepted.sendall(b"hello")
            assert connection.recv(5) == b"hello"


def test_listener_gets_one_connection_only(listener: socket.socket) -> None:
    with dial("127.0.0.1", port_of(listener), timeout_s=5):
        listener.accept()[0].close()
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_refusal_is_an_error_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = port_of(gone)
    begun = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        dial("127.0.0.1", port, timeout_s=20)
    assert time.monotonic() - begun < 0.3


def test_unknown_host_is_an_error() -> None:
    with pytest.raises(OSError, match=r"[Nn]ame|nodename|resolution"):
        dial("no-such-host.invalid", 22, timeout_s=5)


def test_black_hole_times_out(black_hole: socket.socket) -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within 1 s"):
        dial("127.0.0.1", port_of(black_hole), timeout_s=1)
    assert 0.9 < time.monotonic() - begun < 2


def test_path_that_comes_back_is_used_soon(black_hole: socket.socket) -> None:
    # The kernel repeats a lost SYN after 1 s and 2 or 3 s; another attempt is through before.
    def heal() -> None:
        time.sleep(1.1)  # The path is down until here: time itself is what is tested.
        black_hole.listen(16)
        for _ in range(2):
            black_hole.accept()[0].close()

    healer = threading.Thread(target=heal)
    healer.start()
    begun = time.monotonic()
    with dial("127.0.0.1", port_of(black_hole), timeout_s=10):
        waited_s = time.monotonic() - begun
    healer.join()
    assert 1.0 < waited_s < 1.9


def test_no_attempt_is_left_open(black_hole: socket.socket) -> None:
    # A socket that nobody closed is a ResourceWarning, which pytest turns into an error.
    with pytest.raises(TimeoutError):
        dial("127.0.0.1", port_of(black_hole), timeout_s=0.5)


def test_second_address_is_used_when_the_first_refuses(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `localhost` does where a server listens on IPv4 only. The resolver is the one thing here
    that cannot be had for real: no name with a good and a bad address exists on every machine."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        refused = gone.getsockname()
    rows = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", address)
        for address in (refused, listener.getsockname())
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
    with dial("two-addresses", 1, timeout_s=5) as connection:
        assert connection.getpeername() == listener.getsockname()
