"""Logging in with the user's own keys, at real servers, with a real agent."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from colabdev.adapters.processes import run
from colabdev.adapters.ssh import SshConnection
from colabdev.errors import AuthNeeded, ColabdevError, HostKeyMismatch, RuntimeUnreachable
from colabdev.models import UserLogin
from tests.support.keys import Keypair, make_keypair
from tests.support.own_hosts import keygen, ssh_agent
from tests.support.relay import Relay
from tests.support.sshd import Sshd


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def keys(directory: Path) -> dict[str, Keypair]:
    """A key of each kind that may log in, one with a passphrase, and one that may not."""
    made = {kind: keygen(directory / kind, kind) for kind in ("ed25519", "rsa", "ecdsa")}
    made["rsa-pem"] = keygen(directory / "rsa-pem", "rsa", "-m", "PEM")
    made["locked"] = keygen(directory / "lo{ck}ed", "ed25519", passphrase="a passphrase")
    made["stranger"] = make_keypair(directory, "stranger")
    return made


@pytest.fixture(scope="module")
def server(keys: dict[str, Keypair]) -> Iterator[Sshd]:
    allowed = [key.public for name, key in keys.items() if name != "stranger"]
    with Sshd("\n".join(allowed)) as sshd:
        yield sshd


def log_in(server: Sshd, login: UserLogin, *, trusted: Sequence[str] = ()) -> str:
    """Log in and run something; what the server showed."""
    address = replace(server.address, login=login)
    connection = SshConnection(address, Path("/nonexistent"), trusted=trusted)
    try:
        assert run(connection, ["echo", "in"], timeout_s=20).stdout == b"in\n"
        return connection.host_key
    finally:
        connection.close()


def with_files(
    *files: Path, identity_agent: str = "none", identities_only: bool = False
) -> UserLogin:
    return UserLogin(
        host="gpu",
        identity_files=tuple(map(str, files)),
        identity_agent=identity_agent,
        identities_only=identities_only,
    )


def refusal(server: Sshd, login: UserLogin, kind: type[ColabdevError] = AuthNeeded) -> str:
    """The sentence and the hint."""
    with pytest.raises(kind) as caught:
        log_in(server, login)
    return f"{caught.value.message} -> {caught.value.hint}"


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa", "rsa-pem"])
def test_key_file_of_each_kind_logs_in(server: Sshd, keys: dict[str, Keypair], kind: str) -> None:
    log_in(server, with_files(keys[kind].private))


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_agent_key_of_each_kind_logs_in(
    server: Sshd, keys: dict[str, Keypair], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ssh_agent(keys["stranger"].private, keys[kind].private) as agent:
        log_in(server, UserLogin("gpu", identity_agent=agent))
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        log_in(server, UserLogin("gpu"))
        monkeypatch.setenv("MY_AGENT", agent)
        monkeypatch.delenv("SSH_AUTH_SOCK")
        log_in(server, UserLogin("gpu", identity_agent="$MY_AGENT"))


def test_key_that_is_refused_does_not_keep_the_next_from_being_tried(
    server: Sshd, keys: dict[str, Keypair]
) -> None:
    log_in(server, with_files(keys["stranger"].private, keys["ed25519"].private))


def test_only_named_keys_of_the_agent_are_offered(server: Sshd, keys: dict[str, Keypair]) -> None:
    named = with_files(keys["stranger"].private, identities_only=True)
    with ssh_agent(keys["ed25519"].private) as agent:
        assert "refuses your key" in refusal(server, replace(named, identity_agent=agent))
        log_in(server, replace(named, identity_agent=agent, identities_only=False))


def test_public_file_names_a_key_of_the_agent(
    server: Sshd, keys: dict[str, Keypair], tmp_path: Path
) -> None:
    public = tmp_path / "id.pub"
    public.write_text(keys["ed25519"].public + " me@laptop\n")
    with ssh_agent(keys["stranger"].private, keys["ed25519"].private) as agent:
        log_in(server, with_files(public, identities_only=True, identity_agent=agent))


def test_key_with_a_passphrase_needs_the_agent_and_says_so(
    server: Sshd, keys: dict[str, Keypair], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    locked = keys["locked"].private
    told = refusal(server, with_files(locked))
    assert f"no key of yours can be tried; {locked} has a passphrase, and no agent has it" in told
    assert told.endswith(f"ssh-add '{locked}'")
    answer = tmp_path / "askpass"
    answer.write_text("#!/bin/sh\necho a passphrase\n")
    answer.chmod(0o700)
    monkeypatch.setenv("SSH_ASKPASS", str(answer))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    with ssh_agent(locked) as agent:
        log_in(server, with_files(locked, identity_agent=agent, identities_only=True))


def test_agent_that_went_away_is_named(server: Sshd, keys: dict[str, Keypair]) -> None:
    with ssh_agent(keys["ed25519"].private) as agent:
        pass
    told = refusal(server, UserLogin("gpu", identity_agent=agent))
    assert f"the agent at {agent} does not answer" in told
    assert "colabdev connect, in a shell that has a running ssh-agent" in told


def test_agent_that_refuses_to_sign_does_not_end_the_login(
    server: Sshd, keys: dict[str, Keypair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    with ssh_agent() as agent:
        environment = {**os.environ, "SSH_AUTH_SOCK": agent}
        ask_first = ["ssh-add", "-q", "-c", str(keys["ed25519"].private)]
        subprocess.run(ask_first, env=environment, check=True, timeout=10)
        log_in(server, with_files(keys["rsa"].private, identity_agent=agent))
        assert "refuses your key" in refusal(server, with_files(identity_agent=agent))


def test_security_key_is_told(server: Sshd, tmp_path: Path) -> None:
    # ssh-keygen makes none without the device; this is the format of its file.
    sk = tmp_path / "id_ed25519_sk"
    sk.write_text(SECURITY_KEY)
    told = refusal(server, with_files(sk))
    assert "a key on a security key (FIDO), which only OpenSSH itself can use" in told
    assert "ssh-copy-id gpu" in told


def test_certificate_of_the_agent_is_told(
    server: Sshd, keys: dict[str, Keypair], tmp_path: Path
) -> None:
    ca, key = keygen(tmp_path / "ca", "ed25519"), keygen(tmp_path / "key", "ed25519")
    sign(ca, key)
    with ssh_agent(key.private) as agent:
        told = refusal(server, UserLogin("gpu", identity_agent=agent))
    assert "refuses your key; the agent has a certificate" in told


def sign(authority: Keypair, key: Keypair) -> None:
    argv = ["ssh-keygen", "-q", "-s", str(authority.private), "-I", "me", "-n", "root"]
    subprocess.run([*argv, f"{key.private}.pub"], check=True, timeout=20)


def test_option_that_only_openssh_can_use_is_told(server: Sshd, keys: dict[str, Keypair]) -> None:
    login = replace(with_files(keys["stranger"].private), unused=("PKCS11Provider",))
    assert "refuses your key; PKCS11Provider can be used by OpenSSH" in refusal(server, login)


def test_file_that_is_no_key_is_told(server: Sshd, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert f"{broken} cannot be read as a key" in refusal(server, with_files(broken))


def test_nothing_to_log_in_with_is_told(server: Sshd) -> None:
    told = refusal(server, with_files(Path("/nonexistent")))
    assert "no key of yours can be tried" in told
    assert "ssh-copy-id gpu" in told


def test_server_that_takes_no_keys_is_told(keys: dict[str, Keypair]) -> None:
    config = ["PubkeyAuthentication no", "PasswordAuthentication yes", "PermitRootLogin yes"]
    with Sshd(keys["ed25519"].public, config=config) as server:
        told = refusal(server, with_files(keys["ed25519"].private))
    assert "takes no keys, only password" in told


def test_server_that_asks_questions_is_told(keys: dict[str, Keypair]) -> None:
    config = ["PubkeyAuthentication no", "KbdInteractiveAuthentication yes", "PermitRootLogin yes"]
    with Sshd(keys["ed25519"].public, config=config) as server:
        told = refusal(server, with_files(keys["ed25519"].private))
    assert "takes no keys, only keyboard-interactive" in told


def test_second_factor_is_told(keys: dict[str, Keypair]) -> None:
    config = [
        "AuthenticationMethods publickey,keyboard-interactive",
        "KbdInteractiveAuthentication yes",
        "PermitRootLogin yes",
    ]
    with Sshd(keys["ed25519"].public, config=config) as server:
        told = refusal(server, with_files(keys["stranger"].private, keys["ed25519"].private))
    assert "takes the key and then wants keyboard-interactive, a second factor" in told


def test_two_keys_may_be_two_factors(keys: dict[str, Keypair]) -> None:
    allowed = keys["ed25519"].public + "\n" + keys["rsa"].public
    with Sshd(allowed, config=["AuthenticationMethods publickey,publickey"]) as server:
        log_in(server, with_files(keys["ed25519"].private, keys["rsa"].private))


def test_server_that_hangs_up_after_many_keys_is_told(keys: dict[str, Keypair]) -> None:
    with Sshd(keys["ed25519"].public, config=["MaxAuthTries 2"]) as server:
        wrong = [keys[name].private for name in ("stranger", "rsa", "ecdsa")]
        told = refusal(server, with_files(*wrong, keys["ed25519"].private))
    assert "hung up after your 2 keys: Too many authentication failures" in told
    assert "IdentitiesOnly yes" in told


def test_any_of_the_known_keys_may_be_shown_and_no_other(keys: dict[str, Keypair]) -> None:
    with Sshd(keys["ed25519"].public, host_keys=[keys["ed25519"], keys["rsa"]]) as server:
        login = with_files(keys["ed25519"].private)
        known = [keys["ecdsa"].public, keys["rsa"].public]
        # It has an ed25519 key, too, which is nobody's business.
        assert log_in(server, login, trusted=known) == keys["rsa"].public
        for other in ("rsa-pem", "ecdsa", "stranger"):
            with pytest.raises(HostKeyMismatch):
                log_in(server, login, trusted=[keys[other].public])
        with pytest.raises(HostKeyMismatch):
            log_in(server, login, trusted=[SECURITY_HOST_KEY])


def test_cut_during_the_login_is_no_refusal(server: Sshd, keys: dict[str, Keypair]) -> None:
    with Relay(server.address.host, server.address.port) as relay:
        login = with_files(keys["ed25519"].private)
        address = replace(server.address, port=relay.port, login=login)
        SshConnection(address, Path("/nonexistent")).close()
        whole = relay.bytes_up + relay.bytes_down
        for part in (0.1, 0.5, 0.65, 0.75):
            relay.cut_after(int(part * whole))
            with pytest.raises(RuntimeUnreachable) as caught:
                SshConnection(address, Path("/nonexistent"))
            assert caught.value.hint == "look at it with: ssh gpu"


SECURITY_HOST_KEY = (
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIFGbnHuvzqG8bUYfO/NIEuXw"
    "5BFlEcDEhnzSHiKqFp3LAAAABHNzaDo="
)
SECURITY_KEY = """-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAASgAAABpzay1zc2
gtZWQyNTUxOUBvcGVuc3NoLmNvbQAAACAAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRob
HB0eHwAAAARzc2g6AAAAcAAAAAcAAAAHAAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY2
9tAAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fAAAABHNzaDoBAAAABmhh
bmRsZQAAAAAAAAAJbWVAbGFwdG9wBgc=
-----END OPENSSH PRIVATE KEY-----
"""
