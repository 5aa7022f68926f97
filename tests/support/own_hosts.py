"""A user's own SSH hosts: their configuration, their known_hosts and their agent."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from colabdev.models import SshAddress
from tests.support.house import House
from tests.support.keys import Keypair


class UserSsh:
    """What a house's user has in `~/.ssh`: hosts, and the keys of those that they know."""

    def __init__(self, house: House) -> None:
        self.directory = house.home / ".ssh"
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.config = house.places.ssh_config
        self.known_hosts = self.directory / "known_hosts"
        self.known_hosts.touch()

    def add_host(
        self, alias: str, address: SshAddress, *options: str, key: Keypair | None = None
    ) -> None:
        """A `Host` of the user's; `options` come first, and so win."""
        identity = [f'IdentityFile "{key.private}"', "IdentitiesOnly yes"] if key else []
        lines = [
            *options,
            f"HostName {address.host}",
            f"Port {address.port}",
            f"User {address.user}",
            f'UserKnownHostsFile "{self.known_hosts}"',
            "GlobalKnownHostsFile none",
            *identity,
        ]
        with self.config.open("a") as config:
            config.write(f"Host {alias}\n" + "".join(f"  {line}\n" for line in lines))

    def know(self, address: SshAddress, *, marker: str = "", key: str | None = None) -> None:
        """A line of known_hosts, as ssh writes it when the user says yes."""
        words = [marker, f"[{address.host}]:{address.port}", key or address.host_key]
        with self.known_hosts.open("a") as file:
            file.write(" ".join(word for word in words if word) + "\n")

    def hash_known_hosts(self) -> None:
        """Make every name in it unreadable, as `HashKnownHosts yes` does."""
        argv = ["ssh-keygen", "-q", "-H", "-f", str(self.known_hosts)]
        subprocess.run(argv, capture_output=True, check=True, timeout=10)
        self.known_hosts.with_name("known_hosts.old").unlink()


@contextmanager
def ssh_agent(*keys: Path) -> Iterator[str]:
    """A real agent that holds these keys; gives its socket."""
    done = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True)
    found = dict(re.findall(r"(SSH_\w+)=([^;]+);", done.stdout))
    environment = {**os.environ, **found}
    try:
        for key in keys:
            subprocess.run(["ssh-add", "-q", key], env=environment, check=True, timeout=10)
        yield found["SSH_AUTH_SOCK"]
    finally:
        subprocess.run(["ssh-agent", "-k"], env=environment, capture_output=True, check=True)


def keygen(path: Path, kind: str, *options: str, passphrase: str = "") -> Keypair:
    """A key as the user's own ssh-keygen makes it."""
    argv: Sequence[str | Path] = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", path]
    subprocess.run([*argv, *options], check=True, timeout=60)
    public = " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])
    return Keypair(path, public)
