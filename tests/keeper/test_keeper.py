"""The keeper as its clients and its runtime meet it: real processes, real sockets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from colabdev.adapters.broker import KeeperClient, KeeperSocket, KeeperUnavailable
from colabdev.adapters.handshake import KEEPER_VERSION
from colabdev.agent import wire
from colabdev.errors import ColabdevError, HostKeyMismatch, RuntimeLost, RuntimeUnreachable
from colabdev.models import KeeperAddress, Phase, RuntimeRecord
from tests.support.house import House, is_running
from tests.support.keys import make_keypair
from tests.support.relay import Relay
from tests.support.waiting import wait_until


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        house.connect()
        yield house


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A computer for tests after which its keeper is as before."""
    with House(tmp_path_factory.mktemp("calm")) as house:
        house.connect()
        yield house


@pytest.fixture
def relay(house: House) -> Iterator[Relay]:
    """The path from the keeper to the runtime, from now on through a relay."""
    machine = house.record().machine
    assert machine is not None
    with Relay(machine.ssh.host, machine.ssh.port) as relay:
        house.move(relay.port)
        house.end_keeper()
        house.keeper().wait_ready(20)
        yield relay


def test_request_is_answered(calm: House) -> None:
    agent = calm.keeper().agent()
    try:
        assert agent.request("ping", {"n": 1}, b"\x00body\xff") == ({"n": 1}, b"\x00body\xff")
    finally:
        agent.close()


def test_agents_are_handed_out_to_many_at_once(calm: House) -> None:
    keeper = calm.keeper()
    agents = list(ThreadPoolExecutor(6).map(lambda _: keeper.agent(), range(6)))
    try:
        assert len({agent.hello.pid for agent in agents}) == 6
        assert [agent.request("ping", {"n": n})[0]["n"] for n, agent in enumerate(agents)] == [
            *range(6)
        ]
    finally:
        for agent in agents:
            agent.close()


def test_next_agent_runs_before_it_is_asked_for(house: House) -> None:
    keeper = house.keeper()
    first = keeper.agent()
    first.close()
    # The keeper has one of its own, that asks who else is there.
    others = wait_until(
        lambda: _two(_agent_pids(house) - {first.hello.pid}), message="a spare runs"
    )
    second = keeper.agent()
    second.close()
    assert second.hello.pid in others


def test_agent_ends_when_its_client_does(calm: House) -> None:
    agent = calm.keeper().agent()
    assert is_running(agent.hello.pid)
    agent.close()
    wait_until(lambda: not is_running(agent.hello.pid), message="the agent ends")


def test_spare_that_died_is_not_handed_out(house: House) -> None:
    keeper = house.keeper()
    spare = keeper.wait_ready(20)
    subprocess.run(["kill", "-9", str(spare.pid)], check=True)
    wait_until(lambda: keeper.wait_ready(20).pid != spare.pid, message="its end is noticed")
    agent = keeper.agent()
    try:
        assert agent.request("ping")[0] == {}
        assert agent.hello.pid != spare.pid
    finally:
        agent.close()


def test_unknown_agent_request_is_refused_by_name_and_the_stream_goes_on(calm: House) -> None:
    agent = calm.keeper().agent()
    try:
        with pytest.raises(ColabdevError, match="no request 'fly'"):
            agent.request("fly")
        assert agent.request("ping", {"still": "here"})[0] == {"still": "here"}
    finally:
        agent.close()


def test_two_starters_end_with_one_keeper(house: House) -> None:
    house.end_keeper()
    with ThreadPoolExecutor(6) as pool:
        keepers = list(pool.map(lambda _: house.keeper(), range(6)))
    assert all(keeper.link()["ok"] for keeper in keepers)
    wait_until(lambda: _keeper_pids(house) == {house.keeper_pid()}, message="one keeper is left")


def test_killed_keeper_is_healed_by_the_next_command(house: House) -> None:
    before = house.keeper_pid()
    house.end_keeper()
    wait_until(lambda: not is_running(before), message="the keeper is dead")
    assert [runtime["state"] for runtime in house.status()] == ["ready"]
    assert house.keeper_pid() != before


@pytest.mark.parametrize(
    "other",
    [
        "import colabdev.version; colabdev.version.VERSION = '0.0.1'",
        # As a checkout from before the agent learned something: its version is the same.
        "import colabdev.agent.wire; colabdev.agent.wire.PROTOCOL -= 1",
    ],
)
def test_keeper_of_another_version_is_replaced(house: House, other: str) -> None:
    house.keeper().quit()
    old = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{other}\nfrom colabdev.keeper.__main__ import main; main('local')",
        ],
        env=house.environment,
        stdout=subprocess.PIPE,
    )
    assert old.stdout is not None
    assert json.loads(old.stdout.readline()) == {"ready": True}
    old.stdout.close()
    keeper = house.record().keeper
    assert keeper is not None
    assert keeper.version != KEEPER_VERSION
    assert [runtime["state"] for runtime in house.status()] == ["ready"]
    assert old.wait(10) == 0
    keeper = house.record().keeper
    assert keeper is not None
    assert (keeper.version, keeper.pid != old.pid) == (KEEPER_VERSION, True)


def test_client_without_the_key_is_refused(calm: House) -> None:
    keeper = calm.record().keeper
    assert keeper is not None
    for key in ("00" * 32, "ff" * 31):
        with pytest.raises(KeeperUnavailable):
            KeeperSocket(replace(keeper, key=key))
    assert calm.keeper().link()["ok"]


def test_client_is_not_fooled_by_a_listener_without_the_key(house: House) -> None:
    """Somebody else's program took the port of a dead keeper."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_answer_anything, args=(listener,), daemon=True).start()
        address = KeeperAddress(1, listener.getsockname()[1], "ab" * 32, KEEPER_VERSION)
        with pytest.raises(KeeperUnavailable):
            KeeperSocket(address)


def test_clients_that_say_nothing_or_nonsense_do_not_stop_others(calm: House) -> None:
    keeper = calm.record().keeper
    assert keeper is not None
    idle = [socket.create_connection(("127.0.0.1", keeper.port)) for _ in range(20)]
    for connection in idle[::2]:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
    assert calm.keeper().link()["ok"]
    for connection in idle:
        connection.close()


def test_unknown_request_is_refused_by_name(calm: House) -> None:
    keeper = calm.record().keeper
    assert keeper is not None
    connection = KeeperSocket(keeper)
    connection.send(wire.encode({"op": "dance"}))
    frame = connection.receive()
    connection.close()
    assert frame is not None
    assert "no request 'dance'" in frame[0]["error"]["message"]


def test_tcp_stream_reaches_a_server_on_the_runtime(calm: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_echo_once, args=(listener,), daemon=True).start()
        stream = calm.keeper().open_tcp("127.0.0.1", listener.getsockname()[1])
        data = bytes(range(256)) * 4096
        threading.Thread(target=_send_and_end, args=(stream, data)).start()
        assert stream.read(len(data)) == data
        assert stream.read(1) == b""
        stream.close()


def test_tcp_stream_to_a_closed_port_says_so(calm: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ColabdevError, match=f"cannot reach 127.0.0.1:{port} on the runtime"):
        calm.keeper().open_tcp("127.0.0.1", port)


def test_connection_is_back_after_a_cut(house: House, relay: Relay) -> None:
    keeper = house.keeper()
    for _ in range(5):
        assert relay.cut() >= 1
        # The keeper learns of it at once; whoever asks meanwhile waits for the new connection.
        agent = keeper.agent(timeout_s=10)
        try:
            assert agent.request("ping", {"back": True})[0] == {"back": True}
        except RuntimeUnreachable:
            continue  # Handed out in the very moment of the cut: said, never hidden.
        finally:
            agent.close()
    agent = keeper.agent(timeout_s=10)
    assert agent.request("ping")[0] == {}
    agent.close()


@pytest.mark.parametrize("cuts_wanted", [20, pytest.param(100, marks=pytest.mark.long)])
def test_who_asks_while_the_path_is_cut_again_and_again_is_served(
    house: House, relay: Relay, cuts_wanted: int
) -> None:
    """The cut hits at every moment of handing out: link up, agent starting, greeting under way."""
    keeper = house.keeper()
    random = Random(4)
    done = threading.Event()
    asked = served_at = 0

    def cut() -> None:
        longest_s = 0.15
        while relay.cuts < cuts_wanted:
            time.sleep(random.uniform(0.0, longest_s))
            relay.cut()
            if relay.cuts - served_at >= 4 and longest_s < 2:
                # What is asked is that it serves between cuts, not how fast this machine is now.
                longest_s *= 1.5
        done.set()

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        while not done.is_set():
            keeper.agent(timeout_s=30).close()
            keeper.wait_ready(30)
            asked += 1
            served_at = relay.cuts
    finally:
        cutter.join(60)
    assert relay.cuts >= cuts_wanted
    assert asked >= 5


def test_connection_is_back_soon_after_the_path_is(house: House, relay: Relay) -> None:
    keeper = house.keeper()
    relay.refuse()
    relay.cut()
    wait_until(lambda: keeper.link()["state"] == "unreachable", message="the cut is noticed")
    time.sleep(3)  # Long enough for a backoff without a cap to have grown past what is allowed.
    relay.accept()
    begun = time.monotonic()
    keeper.wait_ready(10)
    assert time.monotonic() - begun < 3  # The budget is 1 s; `scripts/bench keeper` measures it.


def test_silent_path_is_noticed_and_healed(house: House, relay: Relay) -> None:
    keeper = house.keeper()
    relay.freeze()
    wait_until(
        lambda: keeper.link()["state"] != "ready", timeout_s=15, message="the silence is noticed"
    )
    assert [runtime["state"] for runtime in house.status()] == ["unreachable"]
    relay.thaw()
    keeper.wait_ready(20)
    assert [runtime["state"] for runtime in house.status()] == ["ready"]


def test_address_that_changes_is_followed(house: House, relay: Relay) -> None:
    """A tunnel gives a new address: the keeper reads it with its next try."""
    machine = house.record().machine
    assert machine is not None
    relay.refuse()
    relay.cut()
    with Relay(relay_target(house), embedded_port(house)) as other:
        house.move(other.port)
        house.keeper().wait_ready(10)
        assert other.connections >= 1


def test_foreign_host_key_is_refused_and_said(house: House, tmp_path: Path) -> None:
    foreign = make_keypair(tmp_path, "foreign").public
    house.change(lambda record: _with_host_key(record, foreign))
    house.end_keeper()
    with pytest.raises(HostKeyMismatch, match="another host key than the pinned one"):
        house.keeper().wait_ready(20)
    done = house.colabdev("connect", "local", "--provider", "local")
    # The provider's word is the authenticated channel: connect pins what it says and goes on.
    assert done.returncode == 0, done.stderr


def test_lost_runtime_is_said_and_ends_the_keeper(house: House) -> None:
    pid = house.keeper_pid()
    house.provider.release("local")
    wait_until(lambda: not is_running(pid), timeout_s=20, message="the keeper ends")
    assert house.record().phase is Phase.LOST
    assert [runtime["state"] for runtime in house.status()] == ["lost"]
    done = house.colabdev("ssh", "local", "--", "true")
    assert done.returncode == 12
    assert "gone" in done.stderr


def test_waiting_for_a_lost_runtime_ends_at_once(house: House) -> None:
    keeper = house.keeper()
    house.provider.release("local")
    begun = time.monotonic()
    with pytest.raises((RuntimeLost, RuntimeUnreachable)):
        _wait_ready_for_ever(keeper)
    assert time.monotonic() - begun < 15


def test_keeper_ends_when_its_record_is_gone(house: House) -> None:
    pid = house.keeper_pid()
    house.store.delete("local")
    wait_until(lambda: not is_running(pid), timeout_s=15, message="the keeper ends")


def test_log_is_private_and_holds_no_secret(house: House) -> None:
    house.end_keeper()
    house.status()
    keeper = house.record().keeper
    assert keeper is not None
    log = house.places.log_dir / "keeper-local.log"
    assert keeper.key not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700
    arguments = Path(f"/proc/{keeper.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{keeper.pid}/environ").read_bytes()
    assert keeper.key.encode() not in arguments + environment


def test_quit_returns_when_the_keeper_is_gone(house: House) -> None:
    address = house.record().keeper
    assert address is not None
    KeeperClient("local", address).quit()
    assert house.record().keeper is None
    wait_until(lambda: not is_running(address.pid), timeout_s=2, message="the process ends")


def test_keeper_that_hangs_is_replaced_and_does_not_keep_down_from_its_work(
    house: House, tmp_path: Path
) -> None:
    """On two computers at a time: each waits long for the keeper to answer after all."""
    with House(tmp_path / "other") as other:
        other.connect()
        hung = house.keeper_pid(), other.keeper_pid()
        for pid in hung:
            os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor() as pool:
            down = pool.submit(other.colabdev, "down")
            assert [runtime["state"] for runtime in house.status()] == ["ready"]
            assert down.result().returncode == 0
        assert house.keeper_pid() not in hung
        assert not any(map(is_running, hung))


def test_keeper_that_cannot_start_says_why(house: House) -> None:
    house.end_keeper()
    locks = house.places.state_dir / "locks"
    shutil.rmtree(locks)
    locks.write_text("a file stands here")
    with pytest.raises(ColabdevError, match="cannot write colabdev's state"):
        house.keeper()
    locks.unlink()


def test_keeper_without_a_log_keeps_all_the_same(house: House) -> None:
    house.end_keeper()
    shutil.rmtree(house.places.log_dir)
    house.places.log_dir.write_text("a file stands here")
    house.keeper().wait_ready(20)


def test_keeper_whose_starter_died_goes_on(house: House) -> None:
    house.end_keeper()
    reading, writing = os.pipe()
    os.close(reading)
    keeper = subprocess.Popen(
        [sys.executable, "-m", "colabdev.keeper", "local"], env=house.environment, stdout=writing
    )
    os.close(writing)
    wait_until(lambda: house.record().keeper is not None, message="it announces itself")
    wait_until(lambda: house.record().keeper.pid == keeper.pid, message="it is the one")  # type: ignore[union-attr]
    house.keeper().wait_ready(20)
    house.keeper().quit()
    assert keeper.wait(10) == 0


def relay_target(house: House) -> str:
    """Where the sandbox itself listens."""
    machine = house.provider.find("local")
    assert machine is not None
    return machine.ssh.host


def embedded_port(house: House) -> int:
    """The sandbox's own port."""
    machine = house.provider.find("local")
    assert machine is not None
    return machine.ssh.port


def _with_host_key(record: RuntimeRecord, key: str) -> RuntimeRecord:
    assert record.machine is not None
    return replace(
        record, machine=replace(record.machine, ssh=replace(record.machine.ssh, host_key=key))
    )


def _wait_ready_for_ever(keeper: KeeperClient) -> None:
    while True:
        keeper.wait_ready(60)
        time.sleep(0.1)


def _two(pids: set[int]) -> set[int]:
    return pids if len(pids) >= 2 else set()


def _agent_pids(house: House) -> set[int]:
    return _pids(house, b"# colabdev-agent")


def _keeper_pids(house: House) -> set[int]:
    return _pids(house, b"colabdev.keeper\0local")


def _pids(house: House, text: bytes) -> set[int]:
    """The running processes of this house whose command line holds `text`."""
    state = os.fsencode(house.places.state_dir)
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            ours = state in (directory / "environ").read_bytes()
            if ours and text in (directory / "cmdline").read_bytes():
                found.add(int(directory.name))
        except OSError:
            continue  # Gone meanwhile, or somebody else's.
    return {pid for pid in found if is_running(pid)}


def _answer_anything(listener: socket.socket) -> None:
    client, _ = listener.accept()
    with client:
        client.sendall(b"x" * 32)
        client.recv(64)
        client.sendall(b"y" * 32)


def _send_and_end(stream: KeeperSocket, data: bytes) -> None:
    stream.send(data)
    stream.end_writing()


def _echo_once(listener: socket.socket) -> None:
    client, _ = listener.accept()
    with client:
        while data := client.recv(65536):
            client.sendall(data)
