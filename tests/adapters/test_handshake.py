"""Who does not hold the key gets nowhere, on either side of the keeper's socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from colabdev.adapters.handshake import HandshakeFailed, prove_as_client, prove_as_keeper

KEY = bytes(range(32))
WRONG = bytes(32)
NONCE, PROOF = 32, 32
Side = Callable[[socket.socket, bytes], None]


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets that wait for nothing longer than 5 s."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.settimeout(5)
        yield ours, theirs


def outcome(side: Side, connection: socket.socket, key: bytes) -> BaseException | None:
    """What `side` raises; its socket is closed, as its owner would do."""
    try:
        side(connection, key)
    except (HandshakeFailed, OSError) as exc:
        connection.close()
        return exc
    return None


def shake_hands(client_key: bytes, keeper_key: bytes) -> list[BaseException | None]:
    """How both sides fare, the client's outcome first."""
    outcomes: list[BaseException | None] = [None, None]
    with pair() as (client, keeper):

        def keep() -> None:
            outcomes[1] = outcome(prove_as_keeper, keeper, keeper_key)

        thread = threading.Thread(target=keep)
        thread.start()
        outcomes[0] = outcome(prove_as_client, client, client_key)
        thread.join(10)
        assert not thread.is_alive()
    return outcomes


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := connection.recv(count - len(data))):
        data += piece
    return data


def record_handshake() -> bytes:
    """What a client with the key said in a handshake that succeeded."""
    with pair() as (client, middle), pair() as (behind, keeper):
        threads = [
            threading.Thread(target=prove_as_keeper, args=(keeper, KEY)),
            threading.Thread(target=prove_as_client, args=(client, KEY)),
        ]
        for thread in threads:
            thread.start()
        middle.sendall(receive(behind, NONCE))
        said = receive(middle, NONCE + PROOF)
        behind.sendall(said)
        middle.sendall(receive(behind, PROOF))
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
    return said


def test_same_key_is_accepted_by_both() -> None:
    assert shake_hands(KEY, KEY) == [None, None]


def test_what_follows_the_handshake_is_left_in_the_socket() -> None:
    with pair() as (client, keeper):
        thread = threading.Thread(target=prove_as_keeper, args=(keeper, KEY))
        thread.start()
        prove_as_client(client, KEY)
        thread.join(10)
        client.sendall(b"hello")
        keeper.sendall(b"hello back")
        assert (receive(keeper, 5), receive(client, 10)) == (b"hello", b"hello back")


@pytest.mark.parametrize(
    ("client_key", "keeper_key"),
    [
        (WRONG, KEY),
        (KEY, WRONG),
        (KEY[:-1], KEY),
        (b"", KEY),
        (KEY[:31] + b"\0", KEY),
    ],
)
def test_other_key_is_refused_by_both(client_key: bytes, keeper_key: bytes) -> None:
    client, keeper = shake_hands(client_key, keeper_key)
    assert isinstance(client, HandshakeFailed)
    assert isinstance(keeper, HandshakeFailed)


def test_replayed_client_is_refused() -> None:
    said = record_handshake()
    with pair() as (attacker, keeper):
        attacker.sendall(said)
        assert isinstance(outcome(prove_as_keeper, keeper, KEY), HandshakeFailed)
        assert len(receive(attacker, 1000)) == NONCE  # Not one byte of the keeper's proof.


def test_client_that_sends_the_keepers_nonce_back_is_refused() -> None:
    with pair() as (attacker, keeper):
        result: list[BaseException | None] = []
        thread = threading.Thread(
            target=lambda: result.append(outcome(prove_as_keeper, keeper, KEY))
        )
        thread.start()
        nonce = receive(attacker, NONCE)
        attacker.sendall(nonce + nonce)
        thread.join(10)
        assert isinstance(result[0], HandshakeFailed)


def test_keeper_that_reflects_the_clients_proof_is_refused() -> None:
    # Also with equal nonces, where only the word for who proves makes the difference.
    with pair() as (client, attacker):
        result: list[BaseException | None] = []
        thread = threading.Thread(
            target=lambda: result.append(outcome(prove_as_client, client, KEY))
        )
        thread.start()
        attacker.sendall(bytes(NONCE))
        said = receive(attacker, NONCE + PROOF)
        attacker.sendall(said[NONCE:])
        thread.join(10)
        assert isinstance(result[0], HandshakeFailed)


def test_proof_for_one_client_does_not_serve_another_keeper() -> None:
    # A false keeper gets a proof from the client, for its own nonce, and shows it to the true one.
    with pair() as (client, false_keeper), pair() as (attacker, keeper):
        results: list[BaseException | None] = []
        client_thread = threading.Thread(target=outcome, args=(prove_as_client, client, KEY))
        keeper_thread = threading.Thread(
            target=lambda: results.append(outcome(prove_as_keeper, keeper, KEY))
        )
        client_thread.start()
        keeper_thread.start()
        receive(attacker, NONCE)
        false_keeper.sendall(bytes(NONCE))
        attacker.sendall(receive(false_keeper, NONCE + PROOF))
        keeper_thread.join(10)
        false_keeper.close()
        client_thread.join(10)
        assert isinstance(results[0], HandshakeFailed)


@pytest.mark.parametrize(("side", "length"), [(prove_as_client, 64), (prove_as_keeper, 64)])
def test_hang_up_after_any_byte_is_refused(side: Side, length: int) -> None:
    for count in range(length):
        with pair() as (ours, theirs):
            theirs.sendall(bytes(count))
            theirs.shutdown(socket.SHUT_WR)
            assert isinstance(outcome(side, ours, KEY), HandshakeFailed), count


@pytest.mark.parametrize("side", [prove_as_client, prove_as_keeper])
def test_peer_that_is_gone_is_an_error(side: Side) -> None:
    with pair() as (ours, theirs):
        theirs.close()
        assert isinstance(outcome(side, ours, KEY), HandshakeFailed | OSError)


@pytest.mark.parametrize("sent", [0, 10, 32, 40])
@pytest.mark.parametrize("side", [prove_as_client, prove_as_keeper])
def test_silent_peer_times_out(side: Side, sent: int) -> None:
    with pair() as (ours, theirs):
        ours.settimeout(0.1)
        theirs.sendall(bytes(sent))
        begun = time.monotonic()
        assert isinstance(outcome(side, ours, KEY), TimeoutError)
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4, bytes(4096)])
@pytest.mark.parametrize("side", [prove_as_client, prove_as_keeper])
def test_garbage_is_refused(side: Side, garbage: bytes) -> None:
    with pair() as (ours, theirs):
        theirs.sendall(garbage)
        assert isinstance(outcome(side, ours, KEY), HandshakeFailed)
