"""What every provider of runtimes must do, wherever they come from; see `ports.Provider`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from colabdev.adapters.own_hosts import OwnHosts
from colabdev.adapters.ssh import SshConnection
from colabdev.errors import ColabdevError
from colabdev.models import HardwareWish, Machine, StartRequest
from colabdev.ports import Provider
from colabdev.providers.local import LocalLogin, LocalProvider
from colabdev.providers.ssh import SshProvider
from tests.support.colab import Colab
from tests.support.colab_user import ColabHouse
from tests.support.house import House
from tests.support.keys import make_keypair
from tests.support.own_hosts import UserSsh
from tests.support.sshd import Sshd


@dataclass(frozen=True, slots=True)
class Market:
    """A provider, and what its world does behind its back."""

    provider: Provider
    public_key: str
    mute: Callable[[str], None]
    """Nobody can say any more how the runtime of that name is."""
    unmute: Callable[[str], None]
    die: Callable[[str], object] | None
    """The runtime of that name dies as a machine does; None: its provider cannot tell."""
    host: str | None = None
    steps: list[str] = field(default_factory=list)

    def start(self, name: str, request_id: str = "one") -> Machine:
        wish = HardwareWish(("none",)) if self.provider.name == "colab" else HardwareWish()
        request = StartRequest(name, request_id, self.public_key, host=self.host, hardware=wish)
        return self.provider.start(request, self.steps.append)


def local_market(tmp: Path) -> Market:
    root = tmp / "local"
    keypair = make_keypair(tmp)
    provider = LocalProvider(root, lambda: LocalLogin(sys.executable))
    mute, unmute = spoiling(lambda name: root / "sandboxes" / name / "sandbox.json")
    return Market(provider, keypair.public, mute, unmute, die=provider.kill)


@pytest.fixture(scope="module")
def own_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    tmp = tmp_path_factory.mktemp("own-host")
    with House(tmp / "house") as house:
        key = make_keypair(house.home, "user's key")
        user = UserSsh(house)
        files = house.ssh_files
        with Sshd(key.public, home=house.home, python=Path(sys.executable).parent) as sshd:
            user.add_host("gpu", sshd.address, key=key)
            user.know(sshd.address)
            hosts = house.places.hosts_dir
            provider = SshProvider(
                hosts,
                OwnHosts(files.user_config),
                lambda address, trusted: SshConnection(
                    address, files.private_key_file, trusted=trusted
                ),
            )
            mute, unmute = spoiling(lambda name: hosts / f"{name}.json")
            yield Market(provider, files.public_key(), mute, unmute, die=None, host="gpu")


@pytest.fixture(scope="module")
def colab_market(stand_in: Colab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with ColabHouse(tmp_path_factory.mktemp("market"), stand_in, browser="true") as house:
        house.log_in_by_gcloud()
        provider, notes = house.colab_provider(), house.colab_notes()

        def die(name: str) -> None:
            note = notes.load(name)
            assert note is not None
            stand_in.do("reclaim", note.endpoint or "")

        yield Market(
            provider,
            house.ssh_files.public_key(),
            mute=lambda _: stand_in.fault("backend_status", 500),
            unmute=lambda _: stand_in.fault("backend_status", None),
            die=die,
        )
        for name in provider.names():
            provider.release(name)


def spoiling(
    file_of: Callable[[str], Path],
) -> tuple[Callable[[str], None], Callable[[str], None]]:
    """Makes what a provider knows of a runtime unreadable, and readable again."""
    before: dict[str, bytes] = {}

    def spoil(name: str) -> None:
        before[name] = file_of(name).read_bytes()
        file_of(name).write_text("{")

    return spoil, lambda name: void(file_of(name).write_bytes(before[name]))


def void(_: object) -> None:
    """Whatever came of it."""


@pytest.fixture(scope="module", params=["local", "ssh", "colab"])
def market(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Market]:
    """Each provider in turn."""
    if request.param == "local":
        made = local_market(tmp_path_factory.mktemp("local-market"))
    else:
        made = request.getfixturevalue({"ssh": "own_host", "colab": "colab_market"}[request.param])
    yield made
    for name in made.provider.names():
        made.provider.release(name)


@pytest.fixture(scope="module")
def box(market: Market) -> Machine:
    """The runtime `box`, which nobody is to end."""
    return market.start("box")


def test_runtime_is_found_as_it_was_started(market: Market, box: Machine) -> None:
    assert market.provider.find("box") == box
    assert "box" in market.provider.names()
    assert box.request_id == "one"
    assert box.ssh.host_key.startswith("ssh-ed25519 ")
    assert os.path.isabs(box.content_dir)
    assert market.steps, "nobody is kept waiting without a word"


def test_same_request_gives_the_same_runtime(market: Market, box: Machine) -> None:
    assert market.start("box") == box
    assert len(market.provider.names()) == 1


def test_another_request_of_that_name_is_refused(market: Market, box: Machine) -> None:
    with pytest.raises(ColabdevError, match="another request") as caught:
        market.start("box", "two")
    assert "colabdev down box" in caught.value.hint
    assert market.provider.find("box") == box


def test_what_cannot_be_asked_is_not_gone(market: Market, box: Machine) -> None:
    market.mute("box")
    try:
        with pytest.raises(ColabdevError) as caught:
            market.provider.find("box")
    finally:
        market.unmute("box")
    assert caught.value.hint
    assert market.provider.find("box") == box


def test_unknown_runtime_is_gone_and_may_be_released(market: Market) -> None:
    assert market.provider.find("nobody") is None
    market.provider.release("nobody")


def test_runtime_that_ended_is_gone_and_its_name_is_free(market: Market) -> None:
    market.start("brief")
    end = market.die or market.provider.release
    end("brief")
    assert_gone(market, "brief")
    again = market.start("brief", "two")
    assert again.request_id == "two"
    for _ in range(2):
        market.provider.release("brief")
        assert_gone(market, "brief")


def assert_gone(market: Market, name: str) -> None:
    assert market.provider.find(name) is None
    assert name not in market.provider.names()
