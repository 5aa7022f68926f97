"""Promise 8 for a host of the user's own: kill -9 anywhere, type it again, and it is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.keys import Keypair
from tests.support.own_hosts import UserSsh
from tests.support.sshd import Sshd
from tests.test_crash_points import CONNECT, DOWN, assert_nothing_is_left, crash

TYPED = ["connect", "box", "--provider", "ssh", "--host", "gpu"]


@pytest.fixture
def known(house: House, user: UserSsh, key: Keypair, host: Sshd) -> House:
    user.add_host("gpu", host.address, key=key)
    user.know(host.address)
    return house


@pytest.mark.parametrize("point", CONNECT)
def test_connect_killed_goes_on_when_typed_again(known: House, point: str) -> None:
    crash(known, point, *TYPED)
    done = known.colabdev(*TYPED)
    assert done.returncode == 0, done.stderr
    assert [runtime["state"] for runtime in known.status()] == ["ready"]
    assert known.colabdev("down").returncode == 0
    assert_all_is_forgotten(known)


@pytest.mark.long
@pytest.mark.parametrize("point", ["connect.recorded", "connect.started"])
def test_connect_killed_can_be_given_back(known: House, point: str) -> None:
    crash(known, point, *TYPED)
    assert known.colabdev("down", "--all").returncode == 0
    assert_all_is_forgotten(known)


@pytest.mark.long
@pytest.mark.parametrize("point", DOWN)
def test_down_killed_goes_on_when_typed_again(known: House, remote_home: Path, point: str) -> None:
    assert known.colabdev(*TYPED).returncode == 0
    crash(known, point, "down", "box")
    known.status()
    assert known.colabdev("down", "--all").returncode == 0
    assert_all_is_forgotten(known)
    assert (remote_home / "colabdev" / "project").is_dir()


@pytest.mark.long
@pytest.mark.parametrize("point", ["down.marked", "down.released"])
def test_connect_after_down_was_killed_is_right(known: House, point: str) -> None:
    assert known.colabdev(*TYPED).returncode == 0
    crash(known, point, "down", "box")
    done = known.colabdev(*TYPED)
    assert done.returncode == 0, done.stderr
    assert [runtime["state"] for runtime in known.status()] == ["ready"]


def assert_all_is_forgotten(house: House) -> None:
    assert_nothing_is_left(house)
    assert not list(house.places.hosts_dir.glob("*"))
