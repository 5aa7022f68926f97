"""`/colab/ssh`: OpenSSH's own client over the websocket, and every refusal."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket

from tests.support.colab import CHECKOUT, Colab, Machine, end_socket
from tests.support.colab_ssh import open_ssh
from tests.support.keys import Keypair, make_keypair
from tests.support.waiting import wait_until

MALFORMED = ("ssh-ed25519", "ssh-ed25519 %%%", "ssh-ed25519 QUJD", "ecdsa-sha2-nistp256 QUJD x")


@pytest.fixture
def keys(tmp_path: Path) -> Keypair:
    return make_keypair(tmp_path)


@pytest.fixture
def machine(colab: Colab, machine: Machine) -> Machine:
    """One to which nobody is connected any more."""
    _wait_for_free_slot(colab)
    return machine


def ssh(machine: Machine, keys: Keypair, command: str) -> subprocess.CompletedProcess[str]:
    """`command` on the machine, by `ssh` with our websocket as its ProxyCommand."""
    bridge = (
        f"{sys.executable} -m tests.support.colab_ssh {machine.url} {machine.token} {keys.public}"
    )
    options = {
        "ProxyCommand": bridge.replace("%", "%%"),
        "IdentityFile": str(keys.private),
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "BatchMode": "yes",
    }
    argv = ["ssh", "-F", "none", *(f"-o{name}={value}" for name, value in options.items())]
    return subprocess.run(
        [*argv, "root@colab-runtime", command],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def refusal(machine: Machine, key: str | None, **more: bool) -> tuple[int, str]:
    """Status and text with which the websocket was refused."""
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        open_ssh(machine.url, machine.token, key, **more)
    body = refused.value.resp_body or b""
    return refused.value.status_code, body.decode()


@pytest.fixture
def session(machine: Machine, keys: Keypair) -> Iterator[websocket.WebSocket]:
    """An open connection, whose server has said who it is."""
    socket = open_ssh(machine.url, machine.token, keys.public)
    assert bytes(socket.recv_data()[1]).startswith(b"SSH-2.0-OpenSSH")
    yield socket
    end_socket(socket)


def test_openssh_runs_commands_on_the_machine(machine: Machine, keys: Keypair) -> None:
    done = ssh(machine, keys, "cat /var/colab/hostname; pwd; ls -d /content; id -u; exit 3")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.split() == [machine.endpoint, "/root", "/content", "0"]


def test_shell_has_not_the_kernels_environment(machine: Machine, keys: Keypair) -> None:
    assert ssh(machine, keys, "env | grep -c ^TBE_").stdout == "0\n"


def test_host_key_is_the_machines_own_and_lies_where_it_is_looked_for(
    machine: Machine, keys: Keypair
) -> None:
    done = ssh(machine, keys, "cat /etc/ssh/ssh_host_ed25519_key.pub; ls /etc/ssh/ssh_host_*")
    assert done.stdout.startswith("ssh-ed25519 ")
    assert done.stdout.split()[2:] == [
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_ed25519_key.pub",
    ]
    here = Path("/etc/ssh/ssh_host_ed25519_key.pub")
    assert not here.exists() or here.read_text().split()[1] not in done.stdout


def test_key_that_was_not_offered_cannot_log_in(
    machine: Machine, keys: Keypair, tmp_path: Path
) -> None:
    other = make_keypair(tmp_path, "other")
    done = ssh(machine, Keypair(other.private, keys.public), "true")
    assert done.returncode == 255
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize("in_header", [False, True])
def test_token_goes_in_the_query_and_perhaps_in_the_header(
    colab: Colab, machine: Machine, keys: Keypair, in_header: bool
) -> None:
    socket = open_ssh(machine.url, machine.token, keys.public, token_in_header=in_header)
    assert bytes(socket.recv_data()[1]).startswith(b"SSH-2.0-OpenSSH")
    end_socket(socket)
    if in_header:
        colab.facts(ssh_token_in_header=False)
        assert refusal(machine, keys.public, token_in_header=True)[0] == 401


def test_second_connection_is_429_until_the_first_ends(
    colab: Colab, machine: Machine, keys: Keypair, session: websocket.WebSocket
) -> None:
    assert refusal(machine, keys.public)[0] == 429
    session.close()
    _wait_for_free_slot(colab)
    assert ssh(machine, keys, "echo free").stdout == "free\n"


def test_slot_can_linger_after_a_connection_broke(
    colab: Colab, machine: Machine, keys: Keypair, session: websocket.WebSocket
) -> None:
    colab.facts(ssh_slot_lingers_s=60)
    session.shutdown()  # type: ignore[no-untyped-call]
    colab.control("GET", "/")
    assert refusal(machine, keys.public)[0] == 429
    colab.advance(120)
    _wait_for_free_slot(colab)


def test_slot_can_be_busy_for_no_reason_that_one_sees(
    colab: Colab, machine: Machine, keys: Keypair
) -> None:
    colab.fault("ssh_busy", True, times=1)
    assert refusal(machine, keys.public)[0] == 429
    end_socket(open_ssh(machine.url, machine.token, keys.public))


def test_key_must_be_there_and_of_a_kind(machine: Machine) -> None:
    assert refusal(machine, None) == (400, "missing pubkey")
    status, text = refusal(machine, "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAA x")
    assert (status, "unsupported key type" in text) == (400, True)


@pytest.mark.parametrize("key", MALFORMED)
def test_malformed_key_is_400(machine: Machine, key: str) -> None:
    assert refusal(machine, key) == (400, "malformed key")


def test_runtime_made_without_ssh_is_404(colab: Colab, keys: Keypair) -> None:
    colab.fault("no_ssh", True, times=1)
    colab.facts(boot_delay_s=5)
    machine = Machine(colab.assign())
    assert refusal(machine, keys.public)[0] == 404
    colab.do("reclaim", machine.endpoint)


@pytest.mark.parametrize("status", [401, 403, 502])
def test_upgrade_can_be_refused_with_any_status(
    colab: Colab, machine: Machine, keys: Keypair, status: int
) -> None:
    colab.fault("ssh_status", status, times=1)
    assert refusal(machine, keys.public)[0] == status


def test_expired_token_is_404_or_401(colab: Colab, machine: Machine, keys: Keypair) -> None:
    machine.token = "expired"
    assert refusal(machine, keys.public)[0] == 404
    colab.facts(expired_proxy_token_status=401)
    assert refusal(machine, keys.public)[0] == 401


def test_megabytes_arrive_whole(machine: Machine, keys: Keypair) -> None:
    done = ssh(machine, keys, "head -c 8000000 /dev/zero | tr '\\0' x")
    assert done.stdout == "x" * 8_000_000


def test_connection_ends_with_the_runtime(
    colab: Colab, machine: Machine, session: websocket.WebSocket
) -> None:
    killer = threading.Timer(0.2, colab.do, ("reclaim", machine.endpoint))
    killer.start()
    try:
        while session.recv():
            pass
    except websocket.WebSocketTimeoutException:
        raise
    except (websocket.WebSocketException, OSError):
        pass
    killer.join()


def _wait_for_free_slot(colab: Colab) -> None:
    wait_until(
        lambda: not colab.describe()["runtimes"][0]["ssh_busy"],
        message="the slot is not given free",
    )
