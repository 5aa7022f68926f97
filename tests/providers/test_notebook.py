"""What is known of a notebook's machine: a code, and whether it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from colabdev.adapters.ssh import SshConnection
from colabdev.agent.connection_code import format_code
from colabdev.core.connection_codes import Told, told_of
from colabdev.errors import ColabdevError, ReleaseUnproven, UsageError
from colabdev.models import SshAddress, StartRequest
from colabdev.providers.notebook import NotebookProvider
from tests.support.keys import Keypair, make_keypair
from tests.support.sshd import Sshd
from tests.support.web import free_port

REQUEST = StartRequest("notebook", "request-1", "ssh-ed25519 AAAA")


@pytest.fixture
def key(tmp_path: Path) -> Keypair:
    return make_keypair(tmp_path)


@pytest.fixture
def sshd(key: Keypair) -> Iterator[Sshd]:
    with Sshd(key.public) as sshd:
        yield sshd


class Books:
    """One computer, command after command."""

    def __init__(self, directory: Path, key: Keypair) -> None:
        self._directory, self._key = directory, key

    def provider(self, code: Told | None = None) -> NotebookProvider:
        return NotebookProvider(self._directory, self._connect, lambda told: None, code)

    def _connect(self, address: SshAddress, trusted: Sequence[str]) -> SshConnection:
        # Its server lets in who runs the test, and nobody else.
        return SshConnection(replace(address, user="root"), self._key.private, trusted=trusted)


@pytest.fixture
def books(tmp_path: Path, key: Keypair) -> Books:
    return Books(tmp_path / "notebooks", key)


def code(port: int, host_key: str, *, machine: str = "one", age: timedelta = timedelta(0)) -> Told:
    since = datetime.now(UTC) - age
    return told_of(
        format_code(
            {
                "tunnel": "ngrok",
                "host": "127.0.0.1",
                "port": port,
                "host_key": host_key,
                "machine": machine,
                "since": int(since.timestamp()),
                "expires": int((since + timedelta(days=1)).timestamp()),
                "drive": False,
            }
        )
    )


KEY_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBRFczrG4bSPDHJyhzTIh0zVZFlHsZLk4VTXgnoHVbqY"


def test_another_address_of_the_same_machine_replaces_the_first(books: Books) -> None:
    first, second = (code(free_port(), KEY_LINE) for _ in range(2))
    assert books.provider(first).start(REQUEST, print).ssh.port == first.port
    assert books.provider(second).start(REQUEST, print).ssh.port == second.port
    found = books.provider().find("notebook")
    assert found is not None
    assert (found.ssh.port, found.request_id) == (second.port, "request-1")
    assert books.provider().names() == ("notebook",)


def test_another_machine_takes_the_place_of_one_that_is_silent(books: Books) -> None:
    books.provider(code(free_port(), KEY_LINE)).start(REQUEST, print)
    other = books.provider(code(free_port(), KEY_LINE, machine="two"))
    assert other.find("notebook") is None
    other.release("notebook")
    started = other.start(replace(REQUEST, request_id="request-2"), print)
    assert started.request_id == "request-2"


def test_another_machine_does_not_take_the_place_of_one_that_is_up(
    books: Books, sshd: Sshd
) -> None:
    up = code(sshd.address.port, sshd.address.host_key)
    books.provider(up).start(REQUEST, print)
    other = books.provider(code(free_port(), KEY_LINE, machine="two"))
    with pytest.raises(UsageError, match="the one from before is still up"):
        other.find("notebook")


def test_one_that_cannot_be_asked_is_not_said_to_be_released(books: Books, sshd: Sshd) -> None:
    """Neither one that is silent nor one that does not know how to give itself back."""
    for port, host_key in ((free_port(), KEY_LINE), (sshd.address.port, sshd.address.host_key)):
        books.provider(code(port, host_key)).start(REQUEST, print)
        with pytest.raises(ReleaseUnproven, match="its record is kept"):
            books.provider().release("notebook")
        assert books.provider().find("notebook") is not None


def test_one_that_is_too_old_is_gone(books: Books) -> None:
    books.provider(code(free_port(), KEY_LINE, age=timedelta(hours=23))).start(REQUEST, print)
    assert books.provider().find("notebook") is not None
    old = code(free_port(), KEY_LINE, age=timedelta(hours=25))
    with pytest.raises(UsageError, match="there is none"):
        books.provider(old).start(REQUEST, print)
    path = books.provider()._path("notebook")
    path.write_text(path.read_text().replace(found_code(path), old.code))
    assert books.provider().find("notebook") is None
    books.provider().release("notebook")
    assert not path.exists()


def found_code(path: Path) -> str:
    return path.read_text().split('"code": "')[1].split('"')[0]


def test_note_that_makes_no_sense_is_named(books: Books) -> None:
    books.provider(code(free_port(), KEY_LINE)).start(REQUEST, print)
    path = books.provider()._path("notebook")
    path.write_text('{"request_id": "request-1", "code": "colabdev1.AAAA"}')
    with pytest.raises(ColabdevError, match=r"cannot read .*notebook\.json"):
        books.provider().find("notebook")
