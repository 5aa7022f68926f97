"""A user's computer and hosts of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.keys import Keypair, make_keypair
from tests.support.own_hosts import UserSsh
from tests.support.sshd import Sshd

PYTHON = Path(sys.executable).parent


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


@pytest.fixture
def user(house: House) -> UserSsh:
    return UserSsh(house)


@pytest.fixture
def key(house: House) -> Keypair:
    """The user's key."""
    return make_keypair(house.home, "user's key")


@pytest.fixture
def remote_home(tmp_path: Path) -> Path:
    """The login's home directory on the host."""
    home = tmp_path / "remote home"
    home.mkdir()
    return home


@pytest.fixture
def host(key: Keypair, remote_home: Path) -> Iterator[Sshd]:
    """A host that knows the user's key."""
    with Sshd(key.public, home=remote_home, python=PYTHON) as sshd:
        yield sshd
