"""The stand-in as a program: what it prints, and that nothing is left of it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.colab import CHECKOUT, Colab, Machine
from tests.support.colab_kernel import Kernel
from tests.support.colab_server.faults import NAMES
from tests.support.colab_ssh import open_ssh
from tests.support.keys import make_keypair
from tests.support.waiting import wait_until


@pytest.fixture
def own(namespaces: None, tmp_path: Path) -> Colab:
    """One for the test alone, which ends it."""
    return Colab(tmp_path / "state")


def occupy(colab: Colab, tmp_path: Path) -> Machine:
    """A runtime with a kernel, a daemon that left its parents, and an SSH connection."""
    machine = Machine(colab.assign("T4"))
    with Kernel(machine) as kernel:
        daemon = "['setsid', '-f', 'env', '-i', 'sh', '-c', 'trap \"\" HUP TERM; sleep 87654']"
        done = kernel.execute(f"import subprocess; print(subprocess.call({daemon}))")
        assert done.text == "0\n"
    socket = open_ssh(machine.url, machine.token, make_keypair(tmp_path).public)
    socket.recv_data()
    socket.shutdown()  # type: ignore[no-untyped-call]
    return machine


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running(own: Colab, tmp_path: Path, number: signal.Signals) -> None:
    occupy(own, tmp_path)
    began = _family(own.process.pid)
    # Its own machine's first process, a Jupyter server, a kernel, the daemon and a few more.
    assert len(began) >= 5
    own.process.send_signal(number)
    own.process.wait(15)
    own.stop()
    wait_until(
        lambda: not {pid for pid in began if _is_same(pid, began[pid])},
        message="processes of the stand-in outlive it",
    )
    assert str(own.state) not in Path("/proc/mounts").read_text()


def test_listens_on_loopback_only(own: Colab) -> None:
    with own:
        own.facts(boot_delay_s=5)
        machine = Machine(own.assign())
        for url in (own.base_url, own.control_url, machine.url):
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        inodes = _sockets(own.process.pid)
        table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        listening = [row.split() for row in table.splitlines() if " 0A " in row]
        ours = [row[1] for row in listening if row[9] in inodes]
        assert len(ours) == 4
        assert all(address.startswith("0100007F:") for address in ours)


def test_every_fault_is_tested() -> None:
    """From a client's side, in some test of the stand-in or of what is ours."""
    texts = [path.read_text() for path in (CHECKOUT / "tests").glob("colab*/test_*.py")]
    used = {name for text in texts for name in re.findall(r'(?:fault|Case)\("(\w+)"', text)}
    untested = sorted(set(NAMES) - used)
    assert untested == []


def _family(root: int) -> dict[int, str]:
    """When each process below `root` started."""
    parents = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        if (row := _stat(int(pid))) is not None:
            parents[int(pid)] = int(row[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: row[19] for pid in found if (row := _stat(pid)) is not None}


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None


def _is_same(pid: int, started: str) -> bool:
    row = _stat(pid)
    return row is not None and row[19] == started and row[0] != "Z"


def _sockets(pid: int) -> set[str]:
    """The inodes of the sockets that a process has open."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(entry)
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found
