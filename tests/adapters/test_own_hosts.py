"""Which keys a host of the user's own may show: their known_hosts decides, and nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from colabdev.adapters.own_hosts import OwnHosts
from colabdev.adapters.ssh import SshConnection
from colabdev.errors import ColabdevError, HostKeyMismatch
from colabdev.models import SshAddress, StartRequest
from colabdev.providers.ssh import SshProvider
from tests.support.house import House
from tests.support.keys import Keypair, make_keypair
from tests.support.own_hosts import UserSsh, keygen
from tests.support.sshd import Sshd


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


@pytest.fixture
def user(house: House) -> UserSsh:
    return UserSsh(house)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Keypair:
    return make_keypair(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def host(key: Keypair) -> Iterator[Sshd]:
    with Sshd(key.public) as sshd:
        yield sshd


Start = Callable[[], str]


@pytest.fixture
def start(house: House, user: UserSsh, key: Keypair, host: Sshd) -> Start:
    """Reach the host; the key that is pinned then."""
    if not user.config.exists():
        user.add_host("gpu", host.address, "IdentityAgent none", key=key)
    own_hosts = OwnHosts(house.ssh_files.user_config)
    provider = SshProvider(
        house.places.hosts_dir,
        own_hosts,
        lambda address, trusted: SshConnection(address, Path("/nonexistent"), trusted=trusted),
    )

    def start() -> str:
        request = StartRequest("box", "request", "no key", host="gpu")
        machine = provider.start(request, lambda step: None)
        assert provider.find("box") == machine
        return machine.ssh.host_key

    return start


def never(address: SshAddress, trusted: Sequence[str]) -> NoReturn:
    """Nobody is to be connected to."""
    pytest.fail(f"connected to {address}")


def refusal(start: Start, kind: type[ColabdevError] = HostKeyMismatch) -> str:
    with pytest.raises(kind) as caught:
        start()
    return f"{caught.value.message} -> {caught.value.hint}"


def test_known_key_is_pinned(start: Start, user: UserSsh, host: Sshd) -> None:
    user.know(host.address)
    assert start() == host.address.host_key


def test_host_that_nobody_knows_is_not_trusted(
    start: Start, user: UserSsh, host: Sshd, house: House
) -> None:
    user.config.write_text("StrictHostKeyChecking accept-new\n" + user.config.read_text())
    told = refusal(start)
    assert f"[127.0.0.1]:{host.address.port}: it is not in your known_hosts" in told
    assert "type: ssh gpu " in told
    assert user.known_hosts.read_text() == ""
    assert not house.places.hosts_dir.exists()


def test_changed_key_is_refused(start: Start, user: UserSsh, host: Sshd, tmp_path: Path) -> None:
    user.know(host.address, key=make_keypair(tmp_path).public)
    assert "shows another host key than the pinned one" in refusal(start)


def test_key_of_another_kind_only_is_refused(
    start: Start, user: UserSsh, host: Sshd, tmp_path: Path
) -> None:
    user.know(host.address, key=keygen(tmp_path / "rsa", "rsa").public)
    assert "no host key of the pinned kind ssh-rsa" in refusal(start)


def test_one_right_key_among_several_is_enough(
    start: Start, user: UserSsh, host: Sshd, tmp_path: Path
) -> None:
    user.know(host.address, key=keygen(tmp_path / "rsa", "rsa").public)
    user.know(host.address, key=make_keypair(tmp_path).public)
    user.know(host.address)
    assert start() == host.address.host_key


def test_hashed_name_is_found(start: Start, user: UserSsh, host: Sshd) -> None:
    user.know(host.address)
    user.hash_known_hosts()
    assert "127.0.0.1" not in user.known_hosts.read_text()
    assert start() == host.address.host_key


def test_name_without_a_port_counts_for_any(start: Start, user: UserSsh, host: Sshd) -> None:
    user.known_hosts.write_text(f"127.0.0.1 {host.address.host_key}\n")
    assert start() == host.address.host_key


def test_alias_is_what_counts_where_there_is_one(start: Start, user: UserSsh, host: Sshd) -> None:
    user.know(host.address)
    user.config.write_text("HostKeyAlias the-gpu\n" + user.config.read_text())
    assert "the-gpu: it is not in your known_hosts" in refusal(start)
    user.known_hosts.write_text(f"the-gpu {host.address.host_key}\n")
    assert start() == host.address.host_key


def test_revoked_key_is_refused(start: Start, user: UserSsh, host: Sshd) -> None:
    user.know(host.address)
    user.known_hosts.write_text(
        user.known_hosts.read_text() + f"@revoked * {host.address.host_key}\n"
    )
    assert "is revoked" in refusal(start)


def test_host_certificate_is_told_to_be_no_help(start: Start, user: UserSsh, host: Sshd) -> None:
    user.know(host.address, marker="@cert-authority")
    assert "colabdev cannot check host certificates" in refusal(start)


def test_known_hosts_that_cannot_be_read_is_not_taken_for_empty(
    start: Start, user: UserSsh
) -> None:
    user.known_hosts.unlink()
    user.known_hosts.mkdir()
    told = refusal(start, ColabdevError)
    assert f"cannot look into {user.known_hosts}" in told


def test_second_file_and_a_space_in_its_name_are_read(
    start: Start, user: UserSsh, host: Sshd
) -> None:
    user.know(host.address)
    other = user.directory / "known hosts"
    user.known_hosts.rename(other)
    line = f'UserKnownHostsFile "{user.known_hosts}" "{other}"\n'
    user.config.write_text(line + user.config.read_text())
    assert start() == host.address.host_key


def test_configuration_that_ssh_refuses_is_told(start: Start, user: UserSsh) -> None:
    user.config.write_text("NoSuchOption yes\n")
    assert "cannot ask ssh about 'gpu'" in refusal(start, ColabdevError)


def test_name_that_another_request_has_is_refused(
    start: Start, user: UserSsh, host: Sshd, house: House
) -> None:
    user.know(host.address)
    start()
    own_hosts = OwnHosts(house.ssh_files.user_config)
    provider = SshProvider(house.places.hosts_dir, own_hosts, never)
    with pytest.raises(ColabdevError, match="another request has that name"):
        provider.start(StartRequest("box", "other", "no key", host="gpu"), lambda step: None)
    assert provider.names() == ("box",)
    provider.release("box")
    provider.release("box")
    assert (provider.names(), provider.find("box")) == ((), None)
