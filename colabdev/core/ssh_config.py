"""OpenSSH configuration as text: our stanza, and our file of stanzas.

Verified with OpenSSH 9.2: see the rules and traps in CONTRIBUTING.md, "The host entry".
"""

from __future__ import annotations

import re
from pathlib import Path

from colabdev.models import SshAddress

HEADER = "# Written by colabdev. Do not edit: it is written again by every connect and down.\n"

_HOST_LINE = re.compile(r"^Host (\S+)$", re.MULTILINE)


def host_key_alias(name: str) -> str:
    """The name under which a runtime's key is pinned.

    ngrok hands the same host and port to other machines later; a key that is tied to the runtime and
    not to its address can raise neither a false alarm nor a false trust.
    """
    return f"colabdev-{name}"


def render_stanza(name: str, address: SshAddress, *, key_file: Path, known_hosts: Path) -> str:
    """The `Host` stanza of one runtime; overrides what a hostile `Host *` could set."""
    lines = [
        f"HostName {address.host}",
        f"Port {address.port}",
        f"User {address.user}",
        f"IdentityFile {_quoted_path(key_file)}",
        "IdentitiesOnly yes",
        "IdentityAgent none",
        "CertificateFile none",
        f"HostKeyAlias {host_key_alias(name)}",
        f"UserKnownHostsFile {_quoted_path(known_hosts)}",
        "GlobalKnownHostsFile none",
        "StrictHostKeyChecking yes",
        "VerifyHostKeyDNS no",
        "UpdateHostKeys no",
        "CheckHostIP no",
        "PubkeyAuthentication yes",
        "PreferredAuthentications publickey",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "ForwardAgent no",
        "ForwardX11 no",
        "ProxyCommand none",
        "ProxyJump none",
        "RemoteCommand none",
        "PermitLocalCommand no",
        "ControlMaster no",
        "ControlPath none",
        "ServerAliveInterval 15",
        "ServerAliveCountMax 4",
        "ConnectTimeout 20",
        "LogLevel INFO",
    ]
    return f"Host {name}\n" + "".join(f"  {line}\n" for line in lines)


def put_stanza(text: str, name: str, stanza: str) -> str:
    """Our file with `stanza` in place of the one that `name` had."""
    return _join({**_split(text), name: stanza})


def drop_stanza(text: str, name: str) -> str:
    """Our file without the stanza of `name`."""
    return _join({alias: kept for alias, kept in _split(text).items() if alias != name})


def put_known_host(text: str, name: str, host_key: str) -> str:
    """Our known_hosts with `host_key` as the only key of `name`."""
    lines = [*drop_known_host(text, name).splitlines(), f"{host_key_alias(name)} {host_key}"]
    return "".join(f"{line}\n" for line in sorted(lines))


def drop_known_host(text: str, name: str) -> str:
    """Our known_hosts without the key of `name`."""
    prefix = f"{host_key_alias(name)} "
    return "".join(f"{line}\n" for line in text.splitlines() if not line.startswith(prefix))


def _split(text: str) -> dict[str, str]:
    pieces = _HOST_LINE.split(text)[1:]
    names, bodies = pieces[::2], pieces[1::2]
    return {name: f"Host {name}{body.rstrip()}\n" for name, body in zip(names, bodies, strict=True)}


def _join(stanzas: dict[str, str]) -> str:
    return HEADER + "".join(f"\n{stanza}" for _, stanza in sorted(stanzas.items()))


def _quoted_path(path: Path) -> str:
    """A path as an ssh_config argument: quoted, with `%` and quotes escaped."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'
