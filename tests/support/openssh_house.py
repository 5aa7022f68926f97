"""A house's runtime behind OpenSSH's server instead of the sandbox's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.support.house import House
from tests.support.sshd import Sshd


@contextmanager
def behind_openssh(house: House) -> Iterator[None]:
    """The same machine meanwhile, with its own home and its own Python."""
    machine = house.record().machine
    assert machine is not None
    disk = Path(machine.content_dir).parent
    key = house.ssh_files.public_key()
    with Sshd(key, home=disk / "root", python=disk / "bin") as sshd:
        there = replace(machine, ssh=sshd.address)
        house.change(lambda record: replace(record, machine=there))
        house.end_keeper()
        yield
        house.end_keeper()
        house.change(lambda record: replace(record, machine=machine))
