"""The system's own SSH clients, with nothing of the user's configuration and a pinned host key."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colabdev.models import SshAddress

RUN_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class OpenSsh:
    """`ssh`, `sftp` and `scp` to one address as one user; `config` names it `runtime`."""

    config: Path

    def argv(self, *options: str, program: str = "ssh") -> list[str]:
        return [program, "-F", str(self.config), *options]

    def run(
        self, command: str | bytes, *options: str, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        return self.run_program([*self.argv(*options), "runtime", command], stdin=stdin)

    def run_program(
        self, argv: Sequence[str | bytes], *, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            argv, input=stdin, capture_output=True, timeout=RUN_TIMEOUT_S, check=False
        )


def make_openssh(directory: Path, address: SshAddress, private_key: Path) -> OpenSsh:
    known_hosts = directory / f"known_hosts-{address.port}"
    known_hosts.write_text(f"[{address.host}]:{address.port} {address.host_key}\n")
    config = directory / f"ssh_config-{address.port}-{private_key.name}"
    lines = [
        "Host runtime",
        f"HostName {address.host}",
        f"Port {address.port}",
        f"User {address.user}",
        f'IdentityFile "{private_key}"',
        "IdentitiesOnly yes",
        "IdentityAgent none",
        f'UserKnownHostsFile "{known_hosts}"',
        "GlobalKnownHostsFile none",
        "StrictHostKeyChecking yes",
        "BatchMode yes",
        "LogLevel ERROR",
    ]
    config.write_text("\n".join(lines) + "\n")
    return OpenSsh(config)
