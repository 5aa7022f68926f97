"""The ways to start a process on a machine: one contract for all of them."""

from __future__ import annotations

import os
import shlex
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from colabdev.adapters.processes import LocalTransport
from colabdev.adapters.ssh import SshConnection
from colabdev.models import (
    Machine,
    Phase,
    RuntimeRecord,
    SshAddress,
    StartRequest,
    UserLogin,
)
from colabdev.ports import Transport
from tests.colab_server.conftest import namespaces
from tests.support.colab import Colab
from tests.support.colab_user import ColabHouse
from tests.support.house import House
from tests.support.relay import Relay
from tests.support.sshd import Sshd

__all__ = ["namespaces"]


@dataclass(frozen=True, slots=True)
class Server:
    """An SSH server that knows the house's key."""

    house: House
    address: SshAddress


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="session")
def embedded(house: House) -> Server:
    """The server of the local provider."""
    request = StartRequest("embedded", str(uuid.uuid4()), house.ssh_files.public_key())
    return Server(house, house.provider.start(request, lambda step: None).ssh)


@pytest.fixture(scope="session")
def openssh(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """OpenSSH's sshd."""
    home = tmp_path_factory.mktemp("sshd-home")
    with Sshd(house.ssh_files.public_key(), home=home, python=Path(sys.executable).parent) as sshd:
        yield Server(house, sshd.address)


@pytest.fixture(scope="session", params=["embedded", "openssh"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each SSH server in turn."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def stand_in(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Colab]:
    """Colab, as far as a client can tell."""
    with Colab(tmp_path_factory.mktemp("colab") / "state") as started:
        yield started


@pytest.fixture(scope="session")
def on_colab(stand_in: Colab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ColabHouse]:
    """A user's computer with a login for it."""
    with ColabHouse(tmp_path_factory.mktemp("on-colab"), stand_in, browser="true") as house:
        house.log_in_by_gcloud()
        yield house


@pytest.fixture(scope="session")
def through_colab(on_colab: ColabHouse) -> Transport:
    """The keeper of a runtime behind Colab's tunnel."""
    on_colab.connect_colab("--gpu", "none")
    return on_colab.keeper("colab")


def know(server: Server, name: str, address: SshAddress | None = None) -> RuntimeRecord:
    """Make the house know a runtime of that name at the server, or at `address`."""
    record = RuntimeRecord(
        name=name,
        provider="local",
        request_id=str(uuid.uuid4()),
        created=datetime.now(UTC),
        phase=Phase.UP,
        machine=Machine(
            ssh=address or server.address,
            content_dir="/content",
            drive_dir=None,
            since=datetime.now(UTC),
        ),
    )
    server.house.store.save(record)
    return record


@pytest.fixture(
    scope="session",
    params=[
        "local",
        "ssh-embedded",
        "ssh-openssh",
        "jump-openssh",
        "keeper-embedded",
        "keeper-openssh",
        "colab",
    ],
)
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """Each way in turn."""
    kind, _, server_name = request.param.partition("-")
    if kind == "colab":
        yield request.getfixturevalue("through_colab")
        return
    if kind == "local":
        yield LocalTransport(environment=dict(os.environ))
        return
    server: Server = request.getfixturevalue(server_name)
    if kind in ("ssh", "jump"):
        address = server.address if kind == "ssh" else through_itself(server)
        connection = SshConnection(address, server.house.ssh_files.private_key_file)
        yield connection
        connection.close()
        return
    know(server, f"kept-{server_name}")
    yield server.house.keeper(f"kept-{server_name}")


def through_itself(server: Server) -> SshAddress:
    """The address of a user's own host with their own key, behind a jump host that is the same."""
    files, address = server.house.ssh_files, server.address
    record = RuntimeRecord("jump", "ssh", "request", datetime.now(UTC))
    machine = Machine(address, content_dir="/", drive_dir=None, since=datetime.now(UTC))
    files.write(replace(record, machine=machine))
    jump = [*files.command("jump", ["-W", f"[{address.host}]:{address.port}"])]
    login = UserLogin(
        host="own",
        identity_files=(str(files.private_key_file),),
        identity_agent="none",
        proxy_command=shlex.join(jump),
    )
    return replace(address, login=login)


OpenThroughRelay = Callable[[Relay], Transport]


@pytest.fixture(params=["ssh", "keeper"])
def through_relay(
    request: pytest.FixtureRequest, server: Server, tmp_path: Path
) -> Iterator[tuple[Relay, Transport]]:
    """A transport whose connection can be cut."""
    with Relay(server.address.host, server.address.port) as relay:
        address = replace(server.address, host="127.0.0.1", port=relay.port)
        if request.param == "ssh":
            connection = SshConnection(address, server.house.ssh_files.private_key_file)
            yield relay, connection
            connection.close()
        else:
            name = f"cut-{uuid.uuid4().hex[:8]}"
            know(server, name, address)
            yield relay, server.house.keeper(name)
            server.house.end_keeper(name)
            server.house.store.delete(name)
