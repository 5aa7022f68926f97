"""The sandbox's SSH server, as the clients that people use see it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from colabdev.models import Machine, StartRequest
from colabdev.providers.local import LocalProvider, find_login
from colabdev.providers.sandbox_commands import admitted_environment
from colabdev.providers.sandbox_files import SandboxFiles, login_environment
from tests.support.keys import make_keypair
from tests.support.openssh import OpenSsh, make_openssh
from tests.support.waiting import wait_until

HOSTILE = b"sp ace'quote\"\n\xff\xfe$(touch pwned);-r"


@dataclass(frozen=True, slots=True)
class Box:
    machine: Machine
    files: SandboxFiles
    python: str
    key: Path
    ssh: OpenSsh

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[asyncssh.SSHClientConnection]:
        address = self.machine.ssh
        known = f"[{address.host}]:{address.port} {address.host_key}\n".encode()
        async with asyncssh.connect(
            address.host,
            address.port,
            username=address.user,
            client_keys=[str(self.key)],
            known_hosts=asyncssh.import_known_hosts(known.decode()),
            config=None,
            agent_path=None,
        ) as connection:
            yield connection


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    directory = tmp_path_factory.mktemp("box")
    keypair = make_keypair(directory)
    login = find_login(os.environ)
    provider = LocalProvider(directory / "local", lambda: login)
    machine = provider.start(StartRequest("box", "one", keypair.public), lambda _: None)
    files = SandboxFiles(directory / "local", "box")
    ssh = make_openssh(directory, machine.ssh, keypair.private)
    yield Box(machine, files, login.python, keypair.private, ssh)
    provider.release("box")


def text(completed: subprocess.CompletedProcess[bytes]) -> str:
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.decode()


def is_running(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 :][:1] != b"Z"


def read_pid(path: Path) -> int:
    content = wait_until(
        lambda: path.exists() and path.read_text().strip(), message=f"nothing came into {path}"
    )
    return int(content)


def test_command_runs_in_home(box: Box) -> None:
    assert text(box.ssh.run("pwd; echo $COLABDEV_RUNTIME")) == f"{box.files.home}\nbox\n"


def test_environment_is_exactly_the_listed_one(box: Box) -> None:
    listing = text(box.ssh.run("exec cat /proc/self/environ"))
    found = dict(entry.split("=", 1) for entry in listing.split("\0") if entry)
    # The shell adds these three itself.
    for own in ("PWD", "SHLVL", "_", "OLDPWD"):
        found.pop(own, None)
    assert re.fullmatch(r"127\.0\.0\.1 \d+ 127\.0\.0\.1 \d+", found.pop("SSH_CONNECTION"))
    assert found == login_environment(box.files, box.python)


def test_client_may_only_set_locale() -> None:
    wishes = {b"LANG": b"de_DE.UTF-8", b"LC_ALL": b"C", b"LD_PRELOAD": b"x", b"LANGUAGE": b"de"}
    assert admitted_environment(wishes) == {"LANG": "de_DE.UTF-8", "LC_ALL": "C"}


def test_python3_is_the_login_python(box: Box) -> None:
    command = "for p in python3 python; do $p -c 'import sys; print(sys.executable)'; done"
    assert text(box.ssh.run(command)).splitlines() == [box.python] * 2


@pytest.mark.parametrize("code", [0, 1, 7, 126, 127, 130, 137, 143, 255])
def test_exit_code_is_passed_on(box: Box, code: int) -> None:
    assert box.ssh.run(f"exit {code}").returncode == code


def test_unknown_command_ends_with_127(box: Box) -> None:
    assert box.ssh.run("no-such-command-here").returncode == 127


@pytest.mark.parametrize("name", ["TERM", "KILL", "HUP", "SEGV", "USR1"])
def test_death_by_signal_is_reported_as_that_signal(box: Box, name: str) -> None:
    async def die() -> object:
        async with box.connect() as connection:
            completed = await connection.run(f"ulimit -c 0; kill -{name} $$")
            assert completed.exit_signal is not None
            return completed.exit_signal[0]

    assert asyncio.run(die()) == name


def test_both_pipes_carry_all_their_bytes_at_once(box: Box) -> None:
    size = 5_000_000
    completed = box.ssh.run(f"head -c {size} /dev/zero & head -c {size} /dev/zero >&2; wait")
    assert (len(completed.stdout), len(completed.stderr)) == (size, size)
    assert completed.returncode == 0


def test_every_byte_comes_back_as_it_went(box: Box) -> None:
    data = bytes(range(256)) * 8192 + os.urandom(100_001)
    assert box.ssh.run("cat", stdin=data).stdout == data


def test_command_may_hold_any_byte(box: Box) -> None:
    quoted = b"'" + HOSTILE.replace(b"'", b"'\\''") + b"'"
    assert box.ssh.run(b"printf %s " + quoted).stdout == HOSTILE


def test_unread_input_is_dropped_and_does_not_hold_up_the_end(box: Box) -> None:
    completed = box.ssh.run("exec <&-; echo done", stdin=bytes(5_000_000))
    assert (completed.returncode, completed.stdout) == (0, b"done\n")


def test_channel_ends_only_after_the_output_did(box: Box) -> None:
    gate = box.files.home / "gate"
    os.mkfifo(gate)
    command = "(cat gate; echo late) & echo early"
    with subprocess.Popen(
        [*box.ssh.argv(), "runtime", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"early\n"
        gate.write_bytes(b"")
        assert client.stdout.read() == b"late\n"
    assert client.returncode == 0


def test_slow_reader_holds_the_writer_back_and_nobody_else(box: Box) -> None:
    with subprocess.Popen(
        [*box.ssh.argv(), "runtime", "echo $$ > flood.pid; exec cat /dev/zero"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as client:
        pid = read_pid(box.files.home / "flood.pid")
        try:
            wait_until(lambda: _is_blocked(pid), message="the writer was never held back")
            assert text(box.ssh.run("echo other")) == "other\n"
        finally:
            client.kill()
    wait_until(lambda: not is_running(pid), message="the writer survived its closed pipe")


def _is_blocked(pid: int) -> bool:
    """Whether a process that only writes sleeps in it, however often one looks."""
    stat = Path(f"/proc/{pid}/stat")
    return all(b") S " in stat.read_bytes() for _ in range(2000))


def test_process_survives_a_cut_connection(box: Box) -> None:
    with subprocess.Popen(
        [*box.ssh.argv(), "runtime", "echo $$ > survivor.pid; cat; exec sleep 1000"],
        stdin=subprocess.PIPE,
    ) as client:
        pid = read_pid(box.files.home / "survivor.pid")
        client.kill()
    # `cat` ends with its input, so the shell has noticed the cut when it becomes `sleep`.
    wait_until(
        lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", message="stdin did not end"
    )
    os.kill(pid, 9)
    wait_until(lambda: not is_running(pid), message="the survivor does not die")


def test_client_signal_reaches_the_process_group(box: Box) -> None:
    async def interrupt() -> object:
        async with box.connect() as connection:
            # The process never reads: a signal queued behind its input would never arrive.
            process = await connection.create_process("echo up; sleep 1000 | sleep 1000")
            assert await process.stdout.readline() == "up\n"
            process.send_signal("TERM")
            completed = await process.wait()
            assert completed.exit_signal is not None
            return completed.exit_signal[0]

    assert asyncio.run(asyncio.wait_for(interrupt(), 10)) == "TERM"


def test_terminal_has_the_size_and_kind_of_the_clients(box: Box) -> None:
    async def look() -> list[str]:
        async with box.connect() as connection:
            process = await connection.create_process(
                "tty; stty size; echo $TERM; read line; stty size",
                term_type="xterm-test",
                term_size=(91, 37),
            )
            lines = [await process.stdout.readline() for _ in range(3)]
            process.change_terminal_size(120, 50)
            # The server takes requests and input in the order they were sent.
            process.stdin.write("\n")
            lines += [await process.stdout.readline() for _ in range(2)]
            await process.wait(check=True)
            return [line.strip() for line in lines]

    tty, before, kind, _echo, after = asyncio.run(asyncio.wait_for(look(), 10))
    assert tty.startswith("/dev/")
    assert (before, kind, after) == ("37 91", "xterm-test", "50 120")


# A shell with a trap that is interrupted just before it starts `sleep` would wait for that.
UNTIL_INTERRUPTED = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("up", flush=True)
signal.sigwait([signal.SIGINT])
print("interrupted", flush=True)
sys.exit(5)
"""


def test_control_c_interrupts_what_runs_in_the_terminal(box: Box) -> None:
    async def interrupt() -> object:
        async with box.connect() as connection:
            process = await connection.create_process(
                f"python3 -c {shlex.quote(UNTIL_INTERRUPTED)}", term_type="xterm"
            )
            assert (await process.stdout.readline()).strip() == "up"
            process.stdin.write("\x03")
            output = await process.stdout.read()
            assert "interrupted" in output
            return (await process.wait()).exit_status

    assert asyncio.run(asyncio.wait_for(interrupt(), 10)) == 5


def test_terminal_hangs_up_with_its_connection(box: Box) -> None:
    async def leave() -> int:
        async with box.connect() as connection:
            process = await connection.create_process(
                "echo $$; sleep 1000", term_type="xterm", encoding="utf-8"
            )
            pid = int(await process.stdout.readline())
            connection.abort()
            return pid

    pid = asyncio.run(asyncio.wait_for(leave(), 10))
    wait_until(lambda: not is_running(pid), message="nothing hung up")


def test_no_command_gives_a_login_shell(box: Box) -> None:
    (box.files.home / ".profile").write_text("FROM_PROFILE=yes\n")
    completed = box.ssh.run_program(
        [*box.ssh.argv("-tt"), "runtime"], stdin=b"echo profile=$FROM_PROFILE; exit 3\n"
    )
    assert b"profile=yes" in completed.stdout
    assert completed.returncode == 3


def test_sftp_carries_names_that_are_not_text(box: Box, tmp_path: Path) -> None:
    name = b"caf\xe9 \xff"
    data = os.urandom(3_000_000)
    there, back = os.fsencode(tmp_path) + b"/" + name, os.fsencode(tmp_path) + b"/back"
    Path(os.fsdecode(there)).write_bytes(data)
    batch = b'put "%s" "%s"\nget "%s" "%s"\n' % (there, name, name, back)
    sftp = box.ssh.run_program([*box.ssh.argv("-b", "-", program="sftp"), "runtime"], stdin=batch)
    assert sftp.returncode == 0, sftp.stderr
    assert (box.files.home / os.fsdecode(name)).read_bytes() == data
    assert Path(os.fsdecode(back)).read_bytes() == data


def test_scp_reaches_the_whole_file_system(box: Box, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content")
    scp = box.ssh.argv(str(source), f"runtime:{target}", program="scp")
    completed = box.ssh.run_program(scp)
    assert completed.returncode == 0, completed.stderr
    assert target.read_bytes() == b"content"


def test_sftp_refuses_a_fifo_instead_of_stopping_the_server(box: Box) -> None:
    os.mkfifo(box.files.home / "fifo")

    async def fetch() -> None:
        async with (
            box.connect() as connection,
            connection.start_sftp_client() as sftp,
            sftp.open("fifo", "rb"),
        ):
            pass

    with pytest.raises(asyncssh.SFTPError):
        asyncio.run(asyncio.wait_for(fetch(), 10))


def test_rsync_copies_a_tree(box: Box, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(50):
        (tree / f"file {number}").write_bytes(os.urandom(1000))
    (tree / os.fsdecode(b"\xff")).write_bytes(b"name")
    rsync = ["rsync", "-a", "-e", f"ssh -F {box.ssh.config}", f"{tree}/", "runtime:rsynced/"]
    completed = box.ssh.run_program(rsync)
    assert completed.returncode == 0, completed.stderr
    assert _hashes(box.files.home / "rsynced") == _hashes(tree)


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_local_forwarding_reaches_a_server_on_the_runtime(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_echo_once, args=(server,))
        thread.start()
        # -W is a direct-tcpip channel, as -L opens one for each connection.
        forward = f"localhost:{server.getsockname()[1]}"
        argv = [*box.ssh.argv("-W", forward), "runtime"]
        completed = box.ssh.run_program(argv, stdin=b"x" * 100_000)
        thread.join(10)
    assert completed.stdout == b"x" * 100_000


def _echo_once(server: socket.socket) -> None:
    server.settimeout(10)
    connection, _ = server.accept()
    with connection, connection.makefile("rb") as reader:
        data = reader.read()
        connection.sendall(data)


def test_remote_forwarding_is_refused(box: Box) -> None:
    options = ("-R", "127.0.0.1:0:127.0.0.1:9", "-o", "ExitOnForwardFailure=yes")
    assert box.ssh.run("true", *options).returncode == 255


def test_another_key_is_refused(box: Box, tmp_path: Path) -> None:
    other = make_keypair(tmp_path, "other")
    completed = make_openssh(tmp_path, box.machine.ssh, other.private).run("true")
    assert completed.returncode == 255
    assert b"Permission denied (publickey)" in completed.stderr


def test_command_ends_when_its_reader_left(box: Box) -> None:
    with subprocess.Popen(
        [*box.ssh.argv(), "runtime", "exec yes"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"y\n"
        client.stdout.close()
        client.wait(10)


def test_many_commands_share_one_connection(box: Box) -> None:
    async def run_all() -> list[object]:
        async with box.connect() as connection:
            runs = (connection.run(f"echo {number}; exit {number}") for number in range(20))
            return [completed.exit_status for completed in await asyncio.gather(*runs)]

    assert asyncio.run(run_all()) == list(range(20))
