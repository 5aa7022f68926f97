"""A sync killed or cut anywhere: every file is old or new, never torn, and the next sync finishes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.relay import Relay
from tests.support.syncing import SyncedFolder, look, make_synced_folder
from tests.support.ways import through_relay, through_server

PATHS = [f"d{number % 4}/f{number}" for number in range(24)] + ["top", "-x", "a\nb"]
THEIRS = [f"theirs/d{number % 3}/f{number}" for number in range(12)]
"""What somebody edits on the runtime meanwhile."""


class Campaign:
    """A project that changes all the time, and everything that it ever was."""

    def __init__(self, project: SyncedFolder, seed: int) -> None:
        self.project = project
        self.dice = random.Random(seed)
        self.known: dict[str, set[tuple[object, ...]]] = {}
        self.broken = 0
        self.local, self.remote = project.local, project.remote
        project.write("first", "so that there is a work dir to edit")
        project.sync()

    def change(self) -> None:
        """Edit, delete and add files on both sides."""
        for root, paths, count in ((self.local, PATHS, 10), (self.remote, THEIRS, 4)):
            for path in self.dice.sample(paths, count):
                file = root / path
                if file.exists() and self.dice.random() < 0.2:
                    file.unlink()
                else:
                    size = self.dice.choice([0, 20, 5_000, 400_000])
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(self.dice.randbytes(size))
                    file.chmod(self.dice.choice([0o644, 0o755]))
            for path, what in look(root).items():
                self.known.setdefault(path, set()).add(what)

    def run(
        self, rounds: int, disturb: Callable[[subprocess.Popen[bytes]], None], *, breaking: int
    ) -> None:
        """At least so many rounds, and on until `breaking` commands were broken: how often a disturbance
        meets one depends on what else the machine does."""
        done = 0
        while done < rounds or (self.broken < breaking and done < 4 * rounds):
            done += 1
            self.change()
            command = subprocess.Popen(
                [sys.executable, "-m", "colabdev", "sync"],
                cwd=self.project.local,
                env=self.project.house.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            disturb(command)
            _, words = command.communicate(timeout=60)
            if command.returncode != 0:
                self.broken += 1
                assert command.returncode in (-signal.SIGKILL, 12), words
            self.assert_nothing_is_torn()
            if self.dice.random() < 0.4:
                self.converge()
        self.converge()

    def assert_nothing_is_torn(self) -> None:
        contents = {path: {what[-1] for what in kinds} for path, kinds in self.known.items()}
        for root in (self.local, self.remote):
            for path, what in look(root).items():
                assert what[-1] in contents.get(path, set()), f"{path!r} is torn in {root}"

    def converge(self) -> None:
        """One more sync, undisturbed, has nothing to complain about and makes both sides equal."""
        deadline = time.monotonic() + 30
        while True:
            done = self.project.type("sync", "--json")
            if done.returncode != 12 or time.monotonic() > deadline:
                break
        assert done.returncode == 0, done.stdout + done.stderr
        self.project.assert_equal()
        assert not (self.project.remote / ".colabdev" / "staging").exists()
        assert not (self.project.remote / ".colabdev" / "journal").exists()
        assert not (self.project.local / ".colabdev").exists()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        house.connect()
        yield house


@pytest.fixture
def relay(house: House) -> Iterator[Relay]:
    """The path from the keeper to the runtime, from now on through a thin relay."""
    machine = house.record().machine
    assert machine is not None
    with Relay(machine.ssh.host, machine.ssh.port, bits_per_s=60e6) as relay:
        ssh = replace(machine.ssh, host="127.0.0.1", port=relay.port)
        house.change(lambda record: replace(record, machine=replace(machine, ssh=ssh)))
        house.end_keeper()
        house.keeper().wait_ready(20)
        yield relay


@pytest.fixture
def openssh_relay(house: House) -> Iterator[Relay]:
    """The same through OpenSSH's server."""
    with through_server(house, "openssh"), through_relay(house, bits_per_s=60e6) as relay:
        house.keeper().wait_ready(20)
        yield relay


def kill_commands(project: SyncedFolder, *, rounds: int, seed: int, breaking: int) -> Campaign:
    campaign = Campaign(project, seed)
    begun = time.monotonic()
    project.type("sync")
    undisturbed_s = time.monotonic() - begun

    def kill(command: subprocess.Popen[bytes]) -> None:
        try:
            command.wait(campaign.dice.uniform(0.3, 1.0) * undisturbed_s)
        except subprocess.TimeoutExpired:
            command.kill()

    campaign.run(rounds, kill, breaking=breaking)
    return campaign


def kill_agents(project: SyncedFolder, *, rounds: int, seed: int, breaking: int) -> Campaign:
    campaign = Campaign(project, seed)

    def kill(command: subprocess.Popen[bytes]) -> None:
        busy = project.remote / ".colabdev" / "journal"
        while not busy.exists():
            if command.poll() is not None:
                return
        time.sleep(campaign.dice.uniform(0, 0.03))
        for pid in agents(project.house):
            os.kill(pid, signal.SIGKILL)

    campaign.run(rounds, kill, breaking=breaking)
    return campaign


def cut_relay(
    project: SyncedFolder, relay: Relay, *, rounds: int, seed: int, breaking: int
) -> Campaign:
    campaign = Campaign(project, seed)

    def cut(command: subprocess.Popen[bytes]) -> None:
        relay.cut_after(campaign.dice.randint(1, 1_500_000))

    campaign.run(rounds, cut, breaking=breaking)
    return campaign


def agents(house: House) -> list[int]:
    """The agents that run in this house's sandboxes."""
    state = os.fsencode(house.places.state_dir)
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if b"colabdev-agent" in (directory / "cmdline").read_bytes() and (
                state in (directory / "environ").read_bytes()
            ):
                found.append(int(directory.name))
        except OSError:
            continue  # Gone meanwhile, or somebody else's.
    return found


def test_commands_killed(house: House) -> None:
    campaign = kill_commands(make_synced_folder(house, "digits"), rounds=10, seed=1, breaking=5)
    assert campaign.broken >= 5, "the campaign must really kill"


def test_agents_killed(house: House) -> None:
    campaign = kill_agents(make_synced_folder(house, "digits"), rounds=8, seed=2, breaking=2)
    assert campaign.broken >= 2, "the campaign must really kill"


def test_connection_cut(house: House, relay: Relay) -> None:
    campaign = cut_relay(make_synced_folder(house, "digits"), relay, rounds=8, seed=3, breaking=3)
    assert relay.cuts >= 3, "the campaign must really cut"
    assert campaign.broken >= 3


def test_connection_to_openssh_cut(house: House, openssh_relay: Relay) -> None:
    cut_relay(make_synced_folder(house, "digits"), openssh_relay, rounds=4, seed=4, breaking=1)
    assert openssh_relay.cuts >= 2, "the campaign must really cut"


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_syncs_over_openssh_disturbed_in_every_way_long(house: House, openssh_relay: Relay) -> None:
    project = make_synced_folder(house, "digits")
    assert kill_commands(project, rounds=60, seed=21, breaking=20).broken >= 20
    assert kill_agents(project, rounds=40, seed=22, breaking=8).broken >= 8
    cut_relay(project, openssh_relay, rounds=60, seed=23, breaking=20)
    assert openssh_relay.cuts >= 30


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_syncs_disturbed_in_every_way_long(house: House, relay: Relay) -> None:
    project = make_synced_folder(house, "digits")
    assert kill_commands(project, rounds=200, seed=11, breaking=80).broken >= 80
    assert kill_agents(project, rounds=100, seed=12, breaking=20).broken >= 20
    cut_relay(project, relay, rounds=200, seed=13, breaking=60)
    assert relay.cuts >= 100
