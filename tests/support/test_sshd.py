"""The test server is a real one: it lets in the one key, and is who it says it is."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.keys import Keypair, make_keypair
from tests.support.sshd import Sshd

TIMEOUT_S = 20


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Keypair:
    """The key that may log in."""
    return make_keypair(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def server(key: Keypair) -> Iterator[Sshd]:
    """A server with the account's own environment."""
    with Sshd(key.public) as running:
        yield running


def ssh(
    server: Sshd, key: Keypair, known_hosts: Path, *command: str
) -> subprocess.CompletedProcess[str]:
    """Run `command` by the system's ssh, which knows only the pinned host key."""
    address = server.address
    if not known_hosts.exists():
        known_hosts.write_text(f"[{address.host}]:{address.port} {address.host_key}\n")
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": str(key.private),
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known_hosts),
    }
    argv = ["ssh", "-F", "none", "-p", str(address.port)]
    argv += [f"-o{name}={value}" for name, value in options.items()]
    argv += [f"{address.user}@{address.host}", *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_right_key_runs_commands(server: Sshd, key: Keypair, tmp_path: Path) -> None:
    done = ssh(server, key, tmp_path / "known", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert "Accepted publickey" in server.log


def test_wrong_key_is_refused(server: Sshd, tmp_path: Path) -> None:
    done = ssh(server, make_keypair(tmp_path), tmp_path / "known", "echo in")
    assert (done.stdout, done.returncode) == ("", 255)
    assert "Permission denied (publickey)" in done.stderr


def test_another_host_key_than_the_pinned_one_is_noticed(
    server: Sshd, key: Keypair, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    other = make_keypair(tmp_path).public
    known.write_text(f"[{server.address.host}]:{server.address.port} {other}\n")
    done = ssh(server, key, known, "echo in")
    assert (done.stdout, done.returncode) == ("", 255)
    assert "Host key verification failed" in done.stderr


def test_home_and_python_are_set_for_sessions(key: Keypair, tmp_path: Path) -> None:
    home, python = tmp_path / "a home", tmp_path / "bin"
    home.mkdir()
    with Sshd(key.public, home=home, python=python) as server:
        done = ssh(server, key, tmp_path / "known", 'echo "$HOME"; echo "$PATH"')
    set_home, set_path = done.stdout.splitlines()
    assert set_home == str(home)
    assert set_path.split(":")[0] == str(python)


def test_stop_ends_server_and_sessions(key: Keypair, tmp_path: Path) -> None:
    with Sshd(key.public) as server:
        with socket.create_connection((server.address.host, server.address.port), 5) as client:
            assert client.recv(64).startswith(b"SSH-2.0-OpenSSH")
            begun = time.monotonic()
            server.stop()
            client.settimeout(5)
            assert drained(client)
        assert time.monotonic() - begun < 5
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((server.address.host, server.address.port), 5)


def drained(client: socket.socket) -> bool:
    """Whether the other side ended the connection, whatever it said before."""
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True
