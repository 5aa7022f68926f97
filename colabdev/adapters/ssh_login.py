"""Keys that log in over SSH: colabdev's own, or the user's files and agent."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from colabdev.adapters.ssh_transport import Transport
from colabdev.core.private_keys import (
    PrivateKeyFile,
    key_kind,
    parse_private_key,
    parse_public_line,
)
from colabdev.core.ssh_hosts import to_type
from colabdev.errors import AuthNeeded
from colabdev.models import UserLogin

if sys.platform == "win32":
    from paramiko.win_openssh import OpenSSHAgentConnection

log = logging.getLogger(__name__)

AGENT_TIMEOUT_S = 60.0
"""An agent may ask its user first."""

_KINDS = (paramiko.Ed25519Key, paramiko.RSAKey, paramiko.ECDSAKey)
_ADD_A_KEY = "ssh-copy-id {host}, with a plain key of yours, lets colabdev in"


class Login(Protocol):
    """How a connection with a verified host key is logged in."""

    def prepare(self) -> None:
        """Look for the keys; `AuthNeeded` when there can be none."""

    def log_in(self, transport: Transport, user: str, where: str) -> None:
        """Log in; `AuthNeeded` says why not, any exception of paramiko's that the connection broke."""


class OwnKey:
    """colabdev's own key, which a provider has put on the runtime."""

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file
        self._key: paramiko.PKey | None = None

    def prepare(self) -> None:
        try:
            self._key = paramiko.Ed25519Key.from_private_key_file(str(self._key_file))
        except (OSError, paramiko.SSHException) as exc:
            raise AuthNeeded(
                f"cannot use this computer's key {self._key_file}: {exc}",
                hint="remove that file and its .pub; the next connect makes a new pair",
            ) from exc

    def log_in(self, transport: Transport, user: str, where: str) -> None:
        assert self._key is not None, "prepared before"
        try:
            transport.auth_publickey(user, self._key)
        except paramiko.AuthenticationException as exc:
            if _is_broken(transport, exc):
                raise
            raise AuthNeeded(
                f"cannot log in to {where}: it refuses this computer's key",
                hint="colabdev down, then colabdev connect",
            ) from exc


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """Why something that might have logged in was not tried, and what to do about it."""

    what: str
    hint: str


class UserKeys:
    """The user's own keys, in the order of ssh: the agent's, then files that the agent has not."""

    def __init__(self, login: UserLogin) -> None:
        self._login = login
        self._obstacles: list[_Obstacle] = []
        self._files = [(path, *_read_key_file(path)) for path in login.identity_files]

    def prepare(self) -> None:
        """Nothing: what the agent has is asked when it is needed."""

    def log_in(self, transport: Transport, user: str, where: str) -> None:
        try:
            # As ssh does: it asks what the server takes, and some let in who is known to them so.
            transport.auth_none(user)
            return
        except paramiko.BadAuthenticationType as exc:
            methods = exc.allowed_types
        if "publickey" not in methods:
            raise self._no_keys_taken(where, methods)
        refused = 0
        with contextlib.ExitStack() as stack:
            for key in self._keys(stack):
                try:
                    methods = transport.auth_publickey(user, key)
                except paramiko.BadAuthenticationType as exc:
                    raise self._no_keys_taken(where, exc.allowed_types) from exc
                except paramiko.AuthenticationException as exc:
                    if transport.hung_up:
                        raise self._hung_up(where, refused + 1, transport.hung_up) from exc
                    if _is_broken(transport, exc):
                        raise
                    log.info("%s refuses %s %s: %s", where, key.get_name(), key.fingerprint, exc)
                    refused += 1
                    continue
                if not methods:
                    return
                if "publickey" not in methods:
                    raise self._second_factor(where, methods)
        raise self._refused(where, refused)

    def _keys(self, stack: contextlib.ExitStack) -> Iterator[paramiko.PKey]:
        wanted = [public for _, _, public in self._files if public]
        held = self._agent_keys(stack)
        blobs = {bytes(key.blob) for key in held}
        yield from sorted(
            (key for key in held if key.blob in wanted), key=lambda key: wanted.index(key.blob)
        )
        if not self._login.identities_only:
            yield from (key for key in held if key.blob not in wanted)
        for path, file, public in self._files:
            if file is not None and public not in blobs:
                key = self._load(path, file)
                if key is not None:
                    yield key

    def _agent_keys(self, stack: contextlib.ExitStack) -> Sequence[_AgentKey]:
        address = self._agent_address()
        if not address:
            return ()
        try:
            agent = _Agent(address)
        except (OSError, paramiko.SSHException) as exc:
            if sys.platform != "win32" or os.path.exists(address):
                self._obstacles.append(
                    _Obstacle(
                        f"the agent at {address} does not answer ({_cause(exc)})",
                        "colabdev connect, in a shell that has a running ssh-agent",
                    )
                )
            return ()
        stack.callback(agent.close)
        return [
            key for key in agent.identities() if self._is_usable(key_kind(key.blob), "the agent")
        ]

    def _agent_address(self) -> str:
        named = self._login.identity_agent
        if named == "none":
            return ""
        if named == "SSH_AUTH_SOCK":
            return os.environ.get(named, _WINDOWS_AGENT if sys.platform == "win32" else "")
        return os.environ.get(named[1:], "") if named.startswith("$") else named

    def _load(self, path: str, file: PrivateKeyFile) -> paramiko.PKey | None:
        if not self._is_usable(file.kind, path):
            return None
        if file.is_encrypted:
            self._obstacles.append(
                _Obstacle(
                    f"{path} has a passphrase, and no agent has it", f"ssh-add {shlex.quote(path)}"
                )
            )
            return None
        for kind in _KINDS:
            try:
                return kind.from_private_key_file(path)
            except (OSError, ValueError, paramiko.SSHException):
                continue  # Of another kind, most likely.
        self._obstacles.append(
            _Obstacle(
                f"{path} cannot be read as a key", f"ssh-keygen -y -f {shlex.quote(path)} says why"
            )
        )
        return None

    def _is_usable(self, kind: str, place: str) -> bool:
        if kind.endswith("-cert-v01@openssh.com"):
            what = f"{place} has a certificate, which only OpenSSH itself can use"
        elif kind.startswith("sk-"):
            what = f"{place} has a key on a security key (FIDO), which only OpenSSH itself can use"
        else:
            return True
        self._obstacles.append(_Obstacle(what, _ADD_A_KEY))
        return False

    def _no_keys_taken(self, where: str, methods: Sequence[str]) -> AuthNeeded:
        return AuthNeeded(
            f"cannot log in to {where}: it takes no keys, only {', '.join(methods) or 'nothing'}, and "
            "colabdev logs in by a key",
            hint="allow a key there (PubkeyAuthentication yes), then ssh-copy-id "
            f"{to_type(self._login.host)}",
        )

    def _second_factor(self, where: str, methods: Sequence[str]) -> AuthNeeded:
        return AuthNeeded(
            f"cannot log in to {where}: it takes the key and then wants {' or '.join(methods)}, a "
            "second factor that nobody is there to give when colabdev reconnects",
            hint="use a host, or an account on it, that a key alone opens",
        )

    def _hung_up(self, where: str, tried: int, said: str) -> AuthNeeded:
        return AuthNeeded(
            f"cannot log in to {where}: it hung up after {_count(tried)}: {said}",
            hint=f"name the right one for {self._login.host} in your SSH configuration: IdentityFile "
            "and IdentitiesOnly yes",
        )

    def _refused(self, where: str, refused: int) -> AuthNeeded:
        if self._login.unused:
            options = " and ".join(self._login.unused)
            self._obstacles.append(
                _Obstacle(f"{options} can be used by OpenSSH itself only", _ADD_A_KEY)
            )
        tried = f"it refuses {_count(refused)}" if refused else "no key of yours can be tried"
        why = "".join(f"; {obstacle.what}" for obstacle in self._obstacles)
        hint = self._obstacles[0].hint if self._obstacles else _ADD_A_KEY
        return AuthNeeded(
            f"cannot log in to {where}: {tried}{why}",
            hint=hint.replace("{host}", to_type(self._login.host)),
        )


class _AgentKey(AgentKey):
    """A key that an agent may refuse to use, when its user says no or it is locked."""

    def sign_ssh_data(self, data: Any, algorithm: str | None = None) -> Any:
        try:
            return super().sign_ssh_data(data, algorithm)
        except (paramiko.SSHException, OSError) as exc:
            # Raised here it would end the whole connection; so the server refuses this one key.
            log.warning("the agent does not sign with %s: %s", self.fingerprint, exc)
            return b""


class _Agent(AgentSSH):
    """An agent at an address of our choosing; paramiko's own knows only SSH_AUTH_SOCK."""

    def __init__(self, address: str) -> None:
        super().__init__()
        connection = _open_agent(address)
        try:
            self._connect(connection)  # type: ignore[attr-defined]
        except BaseException:
            connection.close()
            raise

    def identities(self) -> Sequence[_AgentKey]:
        return [_AgentKey(self, key.blob, key.comment) for key in self.get_keys()]

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]


def _open_agent(address: str) -> Any:
    if sys.platform == "win32":
        return OpenSSHAgentConnection()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(AGENT_TIMEOUT_S)
    try:
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


_WINDOWS_AGENT = r"\\.\pipe\openssh-ssh-agent"


def _read_key_file(path: str) -> tuple[PrivateKeyFile | None, bytes | None]:
    """The private key's outside and its public half, each None when the file does not tell. A file may
    also hold just the public half of a key that an agent has."""
    text = _read(path)
    file = parse_private_key(text)
    public = file.public if file else parse_public_line(text)
    return file, public or parse_public_line(_read(f"{path}.pub"))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _is_broken(transport: Transport, exc: Exception) -> bool:
    # paramiko calls a connection that broke, or fell silent, during the login a failed login.
    return not transport.is_active() or "timeout" in str(exc)


def _count(keys: int) -> str:
    return "your key" if keys == 1 else f"your {keys} keys"


def _cause(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or str(exc)
