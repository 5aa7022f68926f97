"""Hosts of the user's own: what the system's ssh makes of their name, and which keys they may show."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

from colabdev.adapters.processes import ask, ask_ssh
from colabdev.adapters.user_ssh_config import UserSshConfig, ssh_home
from colabdev.core.ssh_hosts import (
    KnownKeys,
    LocalSsh,
    OwnHost,
    join_known_keys,
    parse_destination,
    parse_known_keys,
    parse_own_host,
    to_type,
)
from colabdev.errors import ColabdevError, HostKeyMismatch

_NO_SSH = "install OpenSSH's client (Debian: openssh-client; Windows: an optional feature)"
_CERTIFICATE = "-cert.pub"


class OwnHosts:
    """Asks OpenSSH, by the user's configuration and their known_hosts."""

    def __init__(self, user_config: UserSshConfig) -> None:
        self._user_config = user_config

    def resolve(self, text: str) -> OwnHost:
        """Where and how the user's ssh would go for `text`; connects to nothing."""
        arguments = parse_destination(text).ssh_arguments
        done = ask_ssh(["-G", *self._user_config.ssh_options, *arguments])
        if done is None:
            raise ColabdevError(f"cannot ask ssh about {text!r}: no answer from it", hint=_NO_SSH)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            raise ColabdevError(
                f"cannot ask ssh about {text!r}: {lines[-1] if lines else 'it fails'}",
                hint=f"ssh -G {shlex.join(arguments)} must work; mend your SSH configuration",
            )
        return _with_existing_keys(parse_own_host(text, done.stdout, self._local_ssh()))

    def known_keys(self, host: OwnHost) -> Sequence[str]:
        """The keys that the user's known_hosts has for the host. `HostKeyMismatch` when it has none:
        nobody is trusted for being the first to answer, whatever StrictHostKeyChecking says."""
        found = KnownKeys()
        for name in host.known_as:
            found = join_known_keys([_ask_keygen(name, file) for file in host.known_hosts])
            if found.trusted:
                return found.trusted
            if found.revoked or found.has_authority:
                break
        raise _unknown(host, found)

    def _local_ssh(self) -> LocalSsh:
        return LocalSsh(
            options=self._user_config.ssh_options,
            join=subprocess.list2cmdline if sys.platform == "win32" else shlex.join,
            user=getpass.getuser(),
            uid=_user_id(),
            home=str(ssh_home()),
            hostname=socket.gethostname(),
            environment=os.environ,
        )


def _user_id() -> str:
    if sys.platform == "win32":
        return "0"  # As OpenSSH for Windows has it.
    return str(os.getuid())


def _with_existing_keys(host: OwnHost) -> OwnHost:
    """Without the default files that are not there: ssh would complain of each in the stanza."""
    login = host.login
    files = tuple(
        file for file in login.identity_files if _is_file(file) or _is_file(f"{file}.pub")
    )
    unused = login.unused
    if "CertificateFile" not in unused and any(_is_file(file + _CERTIFICATE) for file in files):
        unused = (*unused, "CertificateFile")
    return replace(host, login=replace(login, identity_files=files, unused=unused))


def _is_file(path: str) -> bool:
    return os.path.isfile(path)


def _ask_keygen(name: str, file: str) -> KnownKeys:
    try:
        # ssh-keygen says of a file that it cannot read what it says of one without the name.
        with open(file, "rb") as known_hosts:
            known_hosts.read(1)
    except FileNotFoundError:
        return KnownKeys()
    except OSError as exc:
        raise ColabdevError(
            f"cannot look into {file}: {exc.strerror}",
            hint="it is one of your known_hosts; mend it, or leave it out of your SSH configuration",
        ) from exc
    done = ask(["ssh-keygen", "-F", name, "-f", file])
    if done is None:
        raise ColabdevError(f"cannot look into {file}: no answer from ssh-keygen", hint=_NO_SSH)
    return parse_known_keys(done.stdout.decode("utf-8", "replace"))


def _unknown(host: OwnHost, found: KnownKeys) -> HostKeyMismatch:
    name = host.known_as[0]
    if found.revoked:
        return HostKeyMismatch(
            f"cannot trust {name}: every key of it in your known_hosts is revoked",
            hint="ask whoever runs that host for its new key",
        )
    if found.has_authority:
        return HostKeyMismatch(
            f"cannot verify {name}: your known_hosts has only a certificate authority for it, and "
            "colabdev cannot check host certificates",
            hint=f"add its plain key: ssh-keyscan -p {host.port} {shlex.quote(host.hostname)}, "
            "compared with what its admin says",
        )
    return HostKeyMismatch(
        f"cannot verify {name}: it is not in your known_hosts, and the first answer proves nothing",
        hint=f"type: ssh {to_type(host.login.host)}   compare the fingerprint, say yes; then the same "
        "command again",
    )
