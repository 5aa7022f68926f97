"""A runtime to measure against, and the ways to it: as it is, and 100 ms away over 20 Mbit/s."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from colabdev.adapters.broker import KeeperClient
from colabdev.models import RuntimeRecord
from tests.support.house import House
from tests.support.relay import RelayProcess

RTT_S = 0.1
LINK_BITS_PER_S = 20e6
AGENT_REMARK = b"# colabdev-agent"
"""By which the agents that take requests are told among a machine's processes."""

Environment = dict[str, str]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the runtime: the keeper on it, ssh on it, and the relay in between if any."""

    label: str
    keeper: KeeperClient
    ssh: Sequence[str]
    """A new connection for each command."""
    master: Sequence[str]
    """Over a ControlMaster that is up. The last word is the host."""
    relay: RelayProcess | None

    def wire_bytes(self, work: Callable[[], object]) -> int | None:
        """What one round of `work` costs on the wire, both directions; None without a relay."""
        if self.relay is None:
            return None
        before = self.relay.do("counters")
        work()
        after = self.relay.do("counters")
        return sum(after[key] - before[key] for key in ("bytes_up", "bytes_down"))


def unison_command(house: House, way: Way, here: Path, copy: Path) -> tuple[list[str], Environment]:
    """unison between `here` and a folder of the sandbox, over the master; and its environment."""
    ssh, *options, host = way.master
    command = ["unison", str(here), f"ssh://{host}/{copy}", "-batch", "-auto"]
    command += ["-sshcmd", ssh, "-sshargs", shlex.join(options)]
    return command, {**os.environ, "UNISON": str(house.home / "unison-archives")}


@cache
def has_unison() -> bool:
    """Says so when there is none to be beside."""
    found = shutil.which("unison") is not None
    if not found:
        print("no rows beside unison: apt-get install unison", file=sys.stderr)
    return found


@contextmanager
def direct(house: House) -> Iterator[Way]:
    """The way there as it is: loopback."""
    command = list(house.ssh_files.command("local", []))
    with multiplexed(house, command) as master:
        yield Way("loopback", house.keeper(), command, master, None)


@contextmanager
def thin(house: House) -> Iterator[Way]:
    """The same runtime 100 ms away over 20 Mbit/s."""
    machine = house.record().machine
    assert machine is not None
    with RelayProcess(machine.ssh.host, machine.ssh.port, RTT_S, LINK_BITS_PER_S) as relay:
        house.change(lambda record: _through(record, relay.port))
        house.end_keeper()
        keeper = house.keeper()
        keeper.wait_ready(20)
        ssh, *rest = house.ssh_files.command("local", [])
        command = [ssh, "-o", f"Port={relay.port}", *rest]
        with multiplexed(house, command) as master:
            yield Way("100 ms", keeper, command, master, relay)


@contextmanager
def multiplexed(house: House, command: Sequence[str]) -> Iterator[list[str]]:
    """ssh over a ControlMaster that is up."""
    socket_file = house.home / "master"
    master = [command[0], "-o", f"ControlPath={socket_file}", *command[1:]]
    subprocess.run([master[0], "-o", "ControlMaster=yes", "-fN", *master[1:]], check=True)
    try:
        yield master
    finally:
        # A cut on purpose may have ended it before.
        subprocess.run([master[0], "-O", "exit", *master[1:]], check=False, capture_output=True)


def _through(record: RuntimeRecord, port: int) -> RuntimeRecord:
    """The record with the relay's port in place of the runtime's own."""
    assert record.machine is not None
    return replace(
        record, machine=replace(record.machine, ssh=replace(record.machine.ssh, port=port))
    )
