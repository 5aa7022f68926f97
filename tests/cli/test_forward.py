"""`forward`: a server of the runtime's, at a port of this computer."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.jobs import Running
from tests.support.relay import Relay
from tests.support.web import free_port, web_server


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        yield house


@pytest.fixture(scope="module")
def server(connected: House) -> Iterator[int]:
    """A web server on the runtime, which is this computer."""
    (connected.project / "page").write_bytes(bytes(range(256)) * 8192)
    with web_server(connected.project) as port:
        yield port


def page(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/page", timeout=30) as answer:
        content: bytes = answer.read()
        return content


def local_port(forward: Running) -> int:
    """The port that it says it has."""
    return int(forward.read_line().split(" ->")[0].rpartition(":")[2])


def test_forward_leads_many_at_once_and_ends_with_ctrl_c(connected: House, server: int) -> None:
    content = (connected.project / "page").read_bytes()
    with Running(connected, "forward", f"0:{server}") as forward:
        port = local_port(forward)
        assert (
            list(ThreadPoolExecutor(8).map(lambda _: page(port) == content, range(24)))
            == [True] * 24
        )
        forward.interrupt()
        code, _, said = forward.finish()
    assert code == 130
    assert said == "  Ctrl-C ends it\n\ninterrupted; typing the same command again goes on\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_each_direction_ends_by_itself(connected: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        word = f"0:127.0.0.1:{listener.getsockname()[1]}"
        with Running(connected, "forward", word) as forward:
            here = socket.create_connection(("127.0.0.1", local_port(forward)), 10)
            there, _ = listener.accept()
            with here, there, here.makefile("rb") as answers, there.makefile("rb") as questions:
                here.sendall(b"question")
                here.shutdown(socket.SHUT_WR)
                assert questions.read() == b"question"
                there.sendall(b"answer")
                there.shutdown(socket.SHUT_WR)
                assert answers.read() == b"answer"


def test_port_that_is_taken_is_said_and_the_next_free_one_used(
    connected: House, server: int
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        Running(connected, "forward", "--json", f"{other.getsockname()[1]}:{server}") as forward,
    ):
        taken = other.getsockname()[1]
        document = forward.read_document()
        (row,) = document["forwards"]
        assert (document["schema"], document["runtime"]) == (1, "local")
        assert (row["host"], row["port"]) == ("localhost", server)
        assert taken < row["local_port"] < taken + 100
        assert page(row["local_port"]) == (connected.project / "page").read_bytes()
        forward.interrupt()
        said = forward.finish()[2]
    assert f"port {taken} of this computer is taken; using {row['local_port']}" in said


def test_server_that_is_not_there_yet_is_said_once(connected: House) -> None:
    port = free_port()
    with Running(connected, "forward", f"0:{port}") as forward:
        here = local_port(forward)
        for _ in range(3):
            with pytest.raises(OSError, match=r"closed connection|reset"):
                page(here)
        forward.interrupt()
        said = forward.finish()[2]
    assert said.count(f"cannot reach localhost:{port} on the runtime") == 1
    assert "is something listening on that port there?" in said


def test_forward_heals_after_a_cut_a_dead_keeper_and_an_address_change(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        machine = house.connect().machine
        assert machine is not None
        (house.project / "page").write_text("still there")
        with (
            web_server(house.project) as server,
            Relay(machine.ssh.host, machine.ssh.port) as first,
            Relay(machine.ssh.host, machine.ssh.port) as second,
        ):
            house.move(first.port)
            house.end_keeper()
            house.keeper().wait_ready(20)
            with Running(house, "forward", f"0:{server}") as forward:
                port = local_port(forward)
                assert page(port) == b"still there"
                assert first.cut() >= 1
                assert page(port) == b"still there"
                os.kill(house.keeper_pid(), signal.SIGKILL)
                assert page(port) == b"still there"
                house.move(second.port)
                first.refuse()
                first.cut()
                assert page(port) == b"still there"
                assert second.connections >= 1
                assert house.colabdev("down", "local").returncode == 0
                code, _, said = forward.finish()
    assert code == 12
    assert "the runtime 'local' was released meanwhile" in said


def test_client_that_waits_is_let_go_when_the_connection_breaks(tmp_path: Path) -> None:
    with House(tmp_path) as house, socket.create_server(("127.0.0.1", 0)) as listener:
        house.connect()
        with Running(house, "forward", f"0:{listener.getsockname()[1]}") as forward:
            client = socket.create_connection(("127.0.0.1", local_port(forward)), 10)
            client.sendall(b"?")
            server, _ = listener.accept()
            with client, server:
                assert server.recv(1) == b"?"
                house.end_keeper()
                assert client.recv(1) == b""
