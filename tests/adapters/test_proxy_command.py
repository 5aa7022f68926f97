"""A ProxyCommand's process as a socket, and its end."""

from __future__ import annotations

import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from colabdev.adapters.proxy_command import ProxySocket
from tests.support.house import is_running
from tests.support.waiting import wait_until

WAYS = pytest.mark.parametrize("piped", [False, True])


def receive(proxy: ProxySocket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := proxy.recv(count - len(data))):
        data += piece
    return data


@WAYS
def test_bytes_go_there_and_back(piped: bool) -> None:
    data = os.urandom(3_000_000)
    proxy = ProxySocket("cat", piped=piped)
    proxy.settimeout(20)
    received = bytearray()
    while len(received) < len(data):
        sent = len(received)
        proxy.sendall(data[sent : sent + 50_000])
        received += receive(proxy, len(data[sent : sent + 50_000]))
    assert bytes(received) == data
    proxy.close()


@WAYS
def test_end_of_the_command_is_the_end_of_the_stream_and_tells_why(piped: bool) -> None:
    proxy = ProxySocket("sh -c 'echo hello; echo first >&2; echo the reason >&2'", piped=piped)
    proxy.settimeout(20)
    assert receive(proxy, 100) == b"hello\n"
    assert proxy.last_words() == "the reason"
    proxy.close()


@WAYS
def test_silent_end_tells_the_status(piped: bool) -> None:
    proxy = ProxySocket("sh -c 'exit 7'", piped=piped)
    assert proxy.last_words() == "its ProxyCommand ended with status 7"
    proxy.close()


@WAYS
def test_close_ends_the_command_and_what_it_started(tmp_path: Path, piped: bool) -> None:
    pids = tmp_path / "pids"
    proxy = ProxySocket(f"sh -c 'sleep 60 & echo $$ $! > {pids}; echo up; wait'", piped=piped)
    proxy.settimeout(20)
    assert receive(proxy, 3) == b"up\n"
    assert proxy.last_words() == ""
    proxy.close()
    for pid in map(int, pids.read_text().split()):
        wait_until(lambda pid=pid: not is_running(pid), message="it ends")  # type: ignore[misc]


def test_command_that_ignores_the_end_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); print('up', flush=True);"
        "time.sleep(60)"
    )
    program = tmp_path / "stubborn.py"
    program.write_text(code)
    proxy = ProxySocket(f"{sys.executable} {program}")
    proxy.settimeout(20)
    receive(proxy, 3)
    proxy.close()
    wait_until(lambda: not is_running(int(pid_file.read_text())), message="it is killed")


def test_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    proxy = ProxySocket("sh -c 'echo $$; cat'")
    proxy.settimeout(20)
    pid = int(proxy.recv(20))
    assert os.getsid(pid) == pid != os.getsid(0)
    proxy.close()


def test_nobody_is_asked_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    proxy = ProxySocket("sh -c 'echo $SSH_ASKPASS_REQUIRE; (: < /dev/tty) 2>/dev/null && echo tty'")
    proxy.settimeout(20)
    assert receive(proxy, 100) == b"never\n"
    proxy.close()


def test_reader_in_another_thread_is_woken_by_close() -> None:
    proxy = ProxySocket("cat")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(proxy.recv, 1)
        proxy.close()
        with contextlib.suppress(OSError):  # It may only begin to read now.
            assert reading.result(10) == b""
