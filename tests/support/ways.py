"""Other ways to a house's runtime: through OpenSSH's server instead of ours, and through a relay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from colabdev.models import SshAddress
from tests.support.house import House
from tests.support.jobs import workdir
from tests.support.relay import Relay
from tests.support.sshd import Sshd

SERVERS = ("embedded", "openssh")


@contextmanager
def through_server(house: House, server: str) -> Iterator[None]:
    """Inside, that one of `SERVERS` is the runtime's; its disk, home and processes are the same."""
    if server == "embedded":
        yield
        return
    home = workdir(house).parent.parent / "root"
    with Sshd(house.ssh_files.public_key(), home=home) as sshd, _reached_at(house, sshd.address):
        yield


@contextmanager
def through_relay(
    house: House, *, rtt_s: float = 0.0, bits_per_s: float | None = None
) -> Iterator[Relay]:
    """Inside, the keeper reaches the runtime through a relay."""
    machine = house.record().machine
    assert machine is not None
    with Relay(machine.ssh.host, machine.ssh.port, rtt_s=rtt_s, bits_per_s=bits_per_s) as relay:
        address = replace(machine.ssh, host="127.0.0.1", port=relay.port)
        with _reached_at(house, address):
            yield relay


@contextmanager
def _reached_at(house: House, address: SshAddress) -> Iterator[None]:
    before = house.record().machine
    assert before is not None
    _move(house, address)
    try:
        yield
    finally:
        _move(house, before.ssh)


def _move(house: House, address: SshAddress) -> None:
    """Have a keeper that knows nothing of the way before."""
    house.end_keeper()
    machine = house.record().machine
    assert machine is not None
    house.change(lambda record: replace(record, machine=replace(machine, ssh=address)))
