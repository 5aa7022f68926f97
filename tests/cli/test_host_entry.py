"""The host entry with the clients people use: ssh, scp, sftp, rsync, and VS Code's way in.

OpenSSH finds `~/.ssh/config` by the password database's home, not by HOME. A House's main file is
therefore named with -F; one test mounts it where plain ssh looks.
"""

from __future__ import annotations

import functools
import os
import pwd
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from colabdev.core.ssh_config import host_key_alias
from tests.core.test_ssh_config import HOSTILE_HOST, understood
from tests.support.house import House
from tests.support.read_only import read_only_mount
from tests.support.relay import Relay
from tests.support.vscode import wait_for_entry
from tests.support.waiting import wait_until
from tests.support.web import free_port, through_socks, web_server


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A runtime named local, under a configuration that opposes every line of ours."""
    with House(tmp_path_factory.mktemp("house")) as house:
        house.places.ssh_config.parent.mkdir(mode=0o700)
        house.places.ssh_config.write_text(HOSTILE_HOST)
        house.connect()
        yield house


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


def client(
    house: House, program: str, *arguments: str | Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """One of OpenSSH's clients, or one that starts it, with the user's main configuration."""
    done = subprocess.run(
        [program, *arguments],
        env=house.environment,
        cwd=house.project,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def main_file(house: House) -> str:
    return str(house.places.ssh_config)


def test_ssh_runs_a_command(connected: House) -> None:
    done = client(connected, "ssh", "-F", main_file(connected), "local", 'hostname; echo "$HOME"')
    assert done.stdout == f"{socket.gethostname()}\n{runtime_home(connected)}\n"


def test_scp_copies_both_ways(connected: House) -> None:
    scp = functools.partial(client, connected, "scp", "-q", "-F", main_file(connected))
    source, back = connected.project / "sent by scp", connected.project / "scp back"
    source.write_bytes(os.urandom(70_000))
    scp(source, "local:sent by scp")
    assert (runtime_home(connected) / "sent by scp").read_bytes() == source.read_bytes()
    scp("local:sent by scp", back)
    assert back.read_bytes() == source.read_bytes()


def test_sftp_runs_a_batch(connected: House) -> None:
    (connected.project / "sent-by-sftp").write_text("sftp\n")
    batch = "mkdir sftp\nput sent-by-sftp sftp/there\nget sftp/there sftp-back\n"
    client(connected, "sftp", "-q", "-b", "-", "-F", main_file(connected), "local", stdin=batch)
    assert (connected.project / "sftp-back").read_text() == "sftp\n"
    assert (runtime_home(connected) / "sftp" / "there").read_text() == "sftp\n"


def test_rsync_copies_a_tree_both_ways(connected: House) -> None:
    shell = shlex.join(["ssh", "-F", main_file(connected)])
    tree, back = connected.project / "tree", connected.project / "tree-back"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("rsync\n")
    client(connected, "rsync", "-a", "-e", shell, f"{tree}/", "local:tree/")
    assert (runtime_home(connected) / "tree" / "deep" / "file").read_text() == "rsync\n"
    client(connected, "rsync", "-a", "-e", shell, "local:tree/", f"{back}/")
    assert (back / "deep" / "file").read_text() == "rsync\n"


def test_ssh_forwards_dynamically_as_vs_code_asks_for_it(connected: House) -> None:
    (connected.project / "page").write_text("through the runtime\n")
    port = free_port()
    argv = ["ssh", "-F", main_file(connected), "-T", "-D", str(port), "-o", "ConnectTimeout=15"]
    with (
        web_server(connected.project) as web_port,
        subprocess.Popen(
            # VS Code feeds its installer to a shell on stdin.
            [*argv, "local"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=connected.environment,
        ) as ssh,
    ):
        assert ssh.stdin is not None
        assert ssh.stdout is not None
        try:
            ssh.stdin.write(b"echo installed\n")
            ssh.stdin.flush()
            assert ssh.stdout.readline() == b"installed\n"
            request = b"GET /page HTTP/1.0\r\n\r\n"
            answer = wait_until(
                lambda: through_socks(port, web_port, request), message="the proxy answers"
            )
        finally:
            ssh.stdin.close()
            assert ssh.wait(20) == 0
    assert answer.endswith(b"\r\n\r\nthrough the runtime\n")


def test_connect_prints_the_command_that_works(house: House) -> None:
    done = house.colabdev("connect", "--provider", "local")
    command = printed_command(done.stdout)
    assert command == ["ssh", "-F", main_file(house), "local"]
    assert client(house, *command, "echo in").stdout == "in\n"
    assert client(house, "ssh", "-F", house.ssh_files.config_file, "local", "pwd").stdout


def test_entry_follows_a_new_address_under_the_same_name(house: House) -> None:
    machine = house.connect().machine
    assert machine is not None
    argv = ["-F", main_file(house), "local", "echo here"]
    with Relay(machine.ssh.host, machine.ssh.port) as tunnel:
        house.move(tunnel.port)
        wait_for_entry(house, tunnel.port)
        assert client(house, "ssh", *argv).stdout == "here\n"
        assert tunnel.connections >= 1
    # One that came while no keeper ran is written by the next.
    house.end_keeper()
    house.move(machine.ssh.port)
    house.keeper()
    wait_for_entry(house, machine.ssh.port)
    assert client(house, "ssh", *argv).stdout == "here\n"
    assert house.colabdev("down", "local").returncode == 0
    assert "Host " not in house.ssh_files.config_file.read_text()


def test_entry_that_cannot_be_written_is_in_the_keepers_log_and_comes_later(house: House) -> None:
    house.connect()
    folder = house.ssh_files.directory
    with read_only_mount(folder):
        house.move(free_port())
        wait_until(
            lambda: "the host entry does not follow" in house.keeper_log(),
            message="the keeper says so",
        )
    machine = house.record().machine
    assert machine is not None
    wait_for_entry(house, machine.ssh.port)


def test_connect_again_changes_nothing_and_down_takes_everything_out(house: House) -> None:
    main = house.places.ssh_config
    main.parent.mkdir(mode=0o700)
    main.write_text("Host a\n  Port 1\n")
    house.connect()
    options = understood(main, "local")
    address = house.record().machine
    assert address is not None
    assert options["port"] == [str(address.ssh.port)]
    assert options["hostkeyalias"] == [host_key_alias("local")]
    before, known = main.read_bytes(), main.stat()
    house.connect()
    assert (main.read_bytes(), main.stat().st_mtime_ns) == (before, known.st_mtime_ns)

    assert house.colabdev("down", "local").returncode == 0
    (main.parent / "empty").touch()
    assert understood(main, "local") == understood(main.parent / "empty", "local")
    assert "local" not in (main.parent / "colabdev" / "known_hosts").read_text()
    assert main.read_bytes() == before


def test_main_file_that_cannot_be_changed_is_said_and_connect_goes_on(house: House) -> None:
    house.places.ssh_config.mkdir(parents=True)
    done = house.colabdev("connect", "--provider", "local")
    assert done.returncode == 0
    (said,) = (line for line in done.stderr.splitlines() if "Include" in line)
    line = f'Include "{house.ssh_files.config_file}"'
    assert said.strip().startswith(f"cannot change {main_file(house)}: it is not a file; ")
    assert said.endswith(f": {line}")
    command = printed_command(done.stdout)
    assert command == ["ssh", "-F", str(house.ssh_files.config_file), "local"]
    assert client(house, *command, "echo in").stdout == "in\n"


def test_name_of_a_host_of_the_users_is_refused_before_anything_starts(house: House) -> None:
    main = house.places.ssh_config
    main.parent.mkdir(mode=0o700)
    main.write_text("Host *\n  Port 1\nHost work local\n  HostName 10.0.0.1\n")
    before = main.read_bytes()
    done = house.colabdev("connect", "--provider", "local")
    assert done.returncode == 2
    assert done.stderr == (
        f"colabdev: the name 'local' is taken by your own SSH configuration: {main} line 3\n"
        "  next: use another name: colabdev connect local-2 --provider local\n"
    )
    assert house.store.names() == []
    assert house.provider.names() == ()
    assert [path.name for path in main.parent.iterdir()] == ["config"]
    assert main.read_bytes() == before
    house.connect("local-2")
    # Also when it is up: a Host of the user's that came later only adds to ours.
    with main.open("a") as file:
        file.write("Host local-2\n  SendEnv FOO\n")
    house.connect("local-2")


def test_plain_ssh_works_where_it_reads_the_main_file_by_itself(
    house: House, tmp_path: Path
) -> None:
    house.connect()
    main = house.places.ssh_config
    assert "colabdev/config" in main.read_text()
    main.unlink()
    with ssh_home(house.home, tmp_path / "passwd") as inside:
        connect = [sys.executable, "-m", "colabdev", "connect", "--provider", "local"]
        done = client(house, *inside, *connect)
        assert printed_command(done.stdout) == ["ssh", "local"]
        assert main.read_text() == "Include colabdev/config\n"
        assert client(house, *inside, "ssh", "local", "echo in").stdout == "in\n"
        main.write_text(f"Port 1\n{main.read_text()}")
        done = client(house, *inside, *connect)
        assert printed_command(done.stdout) == ["ssh", "local"]
        assert main.read_text().startswith("Include colabdev/config\nPort 1\n")


@contextmanager
def ssh_home(home: Path, database: Path) -> Iterator[list[str]]:
    """What to put in front of a command for whom the password database has that home. Needs root; the
    test is skipped without, never in CI."""
    user = pwd.getpwuid(os.getuid())
    database.write_text(f"{user.pw_name}:x:{user.pw_uid}:{user.pw_gid}::{home}:/bin/sh\n")
    script = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'
    inside = ["unshare", "-m", "sh", "-c", script, "sh", str(database)]
    done = subprocess.run([*inside, "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    yield inside


def runtime_home(house: House) -> Path:
    return house.places.local_dir / "sandboxes" / "local" / "disk" / "root"


def printed_command(stdout: str) -> list[str]:
    """The row of `connect` that a user copies."""
    (row,) = (line for line in stdout.splitlines() if line.split()[:1] == ["or"])
    return shlex.split(row)[1:]
