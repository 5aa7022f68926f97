"""A runtime by ngrok: the real SDK through the whole chain, and everything that can happen to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from colabdev.adapters.ngrok_use import NgrokUse
from colabdev.core.ngrok_usage import FREE_BYTES
from colabdev.errors import AuthNeeded
from tests.support.house import House
from tests.support.jobs import Running
from tests.support.ngrok_edge import AUTH, BIND, TOKEN, NgrokEdge, ngrok_error
from tests.support.ngrok_house import (
    CONNECT,
    endpoint,
    kill_supervisor,
    ngrok_house,
    runtime_home,
    stop_session,
    tunnel_state,
    wait_for_new_address,
)
from tests.support.vscode import Window, wait_for_entry
from tests.support.waiting import wait_until
from tests.support.web import web_server

COUNTING = (
    "import itertools, time\nfor i in itertools.count():\n    print(i)\n    time.sleep(0.02)\n"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, NgrokEdge]]:
    with ngrok_house(tmp_path_factory.mktemp("ngrok")) as (house, edge):
        (house.project / "count.py").write_text(COUNTING)
        done = house.colabdev(*CONNECT, "--tunnel", "ngrok")
        assert done.returncode == 0, done.stderr
        assert "tunnel     ngrok, because you asked for it" in done.stdout
        yield house, edge


@pytest.fixture
def house(home: tuple[House, NgrokEdge]) -> House:
    home[0].keeper().wait_ready(30)
    return home[0]


@pytest.fixture
def edge(home: tuple[House, NgrokEdge]) -> Iterator[NgrokEdge]:
    edge = home[1]
    yield edge
    edge.errors.clear()
    edge.answers_beats = edge.keeps_address = edge.takes_clients = True


def client(house: House, *argv: str | Path) -> str:
    """What a program of OpenSSH's, or one that uses it, prints."""
    done = subprocess.run(
        [*map(str, argv)],
        env=house.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_program_comes_through_the_edge(house: House, edge: NgrokEdge) -> None:
    there = endpoint(house)
    assert there is not None
    config = house.ssh_files.config_file
    wait_for_entry(house, there.port)
    before = edge.clients
    (house.project / "data.bin").write_bytes(bytes(range(256)) * 4096)
    assert client(house, "ssh", "-F", config, "local", "echo in") == "in\n"
    client(house, "scp", "-F", config, house.project / "data.bin", "local:copied.bin")
    client(house, "rsync", "-e", f"ssh -F {config}", house.project / "data.bin", "local:synced.bin")
    home = runtime_home(house)
    for name in ("copied.bin", "synced.bin"):
        assert (home / name).read_bytes() == (house.project / "data.bin").read_bytes()
    with Window(house, "local", config) as window, web_server(house.project) as port:
        assert window.get(port, "count.py") == COUNTING.encode()
    assert edge.clients - before == 4
    assert house.status()[0]["ssh"] == {"alias": "local", "host": there.host, "port": there.port}
    assert [request["Opts"]["IPRestriction"] for request in edge.binds] == [None]


def test_new_address_is_followed_by_job_editor_and_entry(house: House, edge: NgrokEdge) -> None:
    before = endpoint(house)
    config = house.ssh_files.config_file
    edge.keeps_address = False
    with Running(house, "run", "count.py") as job, Window(house, "local", config) as window:
        assert job.read_line() == "0\n"
        edge.cut_all()
        window.wait_ended()  # As VS Code's does; it connects to the same name again.
        now = wait_for_new_address(house, before)
        wait_for_entry(house, now.port)
        known = datetime.fromisoformat(tunnel_state(house)["since"])
        assert (datetime.now(UTC) - known).total_seconds() < 5
        lines = [int(job.read_line()) for _ in range(60)]
        assert lines == list(range(1, 61))
        with Window(house, "local", config) as again, web_server(house.project) as port:
            assert again.said
            assert "installed" not in again.said
            assert again.get(port, "count.py") == COUNTING.encode()
        job.interrupt()


@pytest.mark.long
def test_cut_session_comes_back_at_its_address(house: House, edge: NgrokEdge) -> None:
    before, starts, logins = endpoint(house), tunnel_state(house)["starts"], len(edge.auths)
    edge.cut_all()
    wait_until(lambda: len(edge.auths) > logins, message="the session comes back")
    house.keeper().wait_ready(20)
    assert (endpoint(house), tunnel_state(house)["starts"]) == (before, starts)


@pytest.mark.parametrize(
    "way", ["SIGSTOP", pytest.param("unanswered beats", marks=pytest.mark.long)]
)
def test_silent_session_is_started_again(house: House, edge: NgrokEdge, way: str) -> None:
    starts = tunnel_state(house)["starts"]
    if way == "SIGSTOP":
        stop_session(house)
    else:
        edge.answers_beats = False
    wait_until(
        lambda: tunnel_state(house)["starts"] > starts, timeout_s=15, message="it is started again"
    )
    edge.answers_beats = True
    house.keeper().wait_ready(20)


def test_killed_supervisor_is_started_again_with_its_token(house: House, edge: NgrokEdge) -> None:
    process = tunnel_state(house)["process"]
    kill_supervisor(house)
    wait_until(
        lambda: (
            (runtime_home(house) / ".colabdev/tunnel/state.json").exists()
            and tunnel_state(house)["process"] != process
            and tunnel_state(house)["state"] == "up"
        ),
        timeout_s=20,
        message="another one runs",
    )
    assert edge.auths[-1]["Extra"]["AuthToken"] == TOKEN
    house.keeper().wait_ready(20)


def test_killed_keeper_finds_the_tunnel_again_also_without_a_token(
    house: House, edge: NgrokEdge
) -> None:
    there, process = endpoint(house), tunnel_state(house)["process"]
    token = house.places.config_dir / "ngrok.json"
    aside = token.rename(token.with_suffix(".aside"))
    house.end_keeper()
    house.keeper().wait_ready(20)
    assert (endpoint(house), tunnel_state(house)["process"]) == (there, process)
    edge.keeps_address = False
    edge.cut_all()
    wait_for_new_address(house, there)
    kill_supervisor(house)
    with pytest.raises(AuthNeeded, match="there is no token"):
        wait_until(lambda: house.keeper().wait_ready(5) and None, message="the token is missed")
    aside.rename(token)
    done = house.colabdev(*CONNECT)
    assert done.returncode == 0, done.stderr


def test_what_waiting_does_not_help_ends_with_its_reason(house: House, edge: NgrokEdge) -> None:
    edge.errors[AUTH] = ngrok_error(107, f"The authtoken {TOKEN} is revoked")
    edge.cut_all()
    wait_until(
        lambda: tunnel_state(house)["state"] == "refused", timeout_s=15, message="it is refused"
    )
    logins = len(edge.auths)
    done = house.colabdev("sync")
    assert done.returncode == 10
    assert "the token was revoked or reset (ERR_NGROK_107); waiting does not help" in done.stderr
    assert "next: copy the token of https://dashboard.ngrok.com" in done.stderr
    assert house.status()[0]["state"] == "unreachable"
    assert len(edge.auths) == logins, "nobody tries again by himself"
    edge.errors.clear()
    done = house.colabdev(*CONNECT)
    assert done.returncode == 0, done.stderr
    assert "tunnel     ngrok, because it was connected by that before" in done.stdout


def test_connection_that_is_hung_up_on_is_explained_by_the_tunnel(
    house: House, edge: NgrokEdge
) -> None:
    edge.takes_clients = False
    house.end_keeper()
    keeper = house.keeper()
    reason = wait_until(
        lambda: "tunnel is up" in str(keeper.link()["reason"]) and keeper.link()["reason"],
        message="the reason is known here",
    )
    assert isinstance(reason, dict)
    assert "when the month's transfer or connections are used up" in reason["hint"]
    edge.takes_clients = True
    keeper.wait_ready(20)


@pytest.mark.long
def test_server_that_does_not_answer_is_told(house: House) -> None:
    server = json.loads((house.places.local_dir / "sandboxes/local/sandbox.json").read_text())
    os.kill(server["server_pid"], signal.SIGSTOP)
    try:
        wait_until(
            lambda: tunnel_state(house)["code"] == "8012", timeout_s=15, message="it is missed"
        )
    finally:
        os.kill(server["server_pid"], signal.SIGCONT)
    wait_until(lambda: not tunnel_state(house)["code"], timeout_s=15, message="it is back")
    house.keeper().wait_ready(30)


@pytest.mark.long
def test_what_waiting_helps_is_tried_again(house: House, edge: NgrokEdge) -> None:
    edge.errors[BIND] = ngrok_error(334, "already online")
    kill_supervisor(house)
    wait_until(
        lambda: "ERR_NGROK_334" in str(house.keeper().link()["reason"]),
        timeout_s=15,
        message="the reason is known here",
    )
    edge.errors.clear()
    house.keeper().wait_ready(20)


def test_what_goes_through_is_counted_and_much_of_it_is_asked_about(house: House) -> None:
    use = NgrokUse(house.places.state_dir)
    before = use.read()
    assert before.connections >= 1
    (house.project / "some.bin").write_bytes(os.urandom(3_000_000))
    assert house.colabdev("sync").returncode == 0
    wait_until(
        lambda: 3_000_000 < use.read().size_bytes - before.size_bytes < 4_000_000,
        message="the keeper counts",
    )
    use.add(FREE_BYTES - use.read().size_bytes - 1_000_000, 0)
    wait_until(
        lambda: "of what ngrok's free plan has a month" in str(house.keeper().link()["notice"]),
        message="the keeper warns",
    )
    (house.project / "more.bin").write_bytes(os.urandom(3_000_000))
    halted = house.colabdev("sync")
    assert halted.returncode == 14
    assert "3.0 MB would go through ngrok, whose free plan has 1 GB a month" in halted.stderr
    assert house.colabdev("sync", "--force").returncode == 0


def test_token_is_nowhere_but_where_it_was_put(house: House) -> None:
    """After all that happened above."""
    root = house.home.parent
    kept = root / "config" / "ngrok.json"
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == [kept]
    shown = list(shown_to_others(root))
    assert any(b"ngrok-session" in content for content in shown), "the session was looked at, too"
    assert not any(TOKEN.encode() in content for content in shown)


def shown_to_others(root: Path) -> Iterator[bytes]:
    """Command line and environment of each process that has to do with that folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            content = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(root) in content:
            yield content


def test_other_tunnel_takes_its_place_and_none_ends_it(house: House, edge: NgrokEdge) -> None:
    (house.project / "address").write_text("127.0.0.1")
    with web_server(house.project) as port:
        pages = {"COLABDEV_ADDRESS_URLS": f"http://127.0.0.1:{port}/address"}
        allow = ("--allow-ip", "auto", "--allow-ip", "203.0.113.9")
        done = house.colabdev(*CONNECT, "--tunnel", "ngrok", *allow, env=pages)
    assert done.returncode == 0, done.stderr
    allowed = edge.binds[-1]["Opts"]["IPRestriction"]["allow_cidrs"]
    assert allowed == ["127.0.0.1/32", "203.0.113.9/32"]
    assert edge.agents == 1
    done = house.colabdev(*CONNECT, "--tunnel", "direct", "--json")
    assert done.returncode == 0, done.stderr
    [runtime] = json.loads(done.stdout)["runtimes"]
    machine = house.record().machine
    assert machine is not None
    assert runtime["ssh"]["port"] == machine.ssh.port
    wait_until(lambda: edge.agents == 0, message="the tunnel is closed")
