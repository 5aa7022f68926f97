"""A real OpenSSH server on loopback, private to one test."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from colabdev.models import SshAddress
from tests.support.keys import Keypair, make_keypair

START_TIMEOUT_S = 10.0
START_TRIES = 5
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Sshd:
    """OpenSSH's sshd, running from construction to `stop` (or the end of the `with` block).

    Only `public_key` may log in, as the user who runs the test. `home` becomes HOME of every
    session and `python` the first directory of its PATH, so that what runs there stays out of the
    real home; sessions still start in the account's own home directory, which only the account
    database can change. sshd gives its sessions a fresh environment: nothing of the test's own
    reaches them. `config` are lines of sshd_config that come before ours, and so win; `host_keys`
    private keys that it shows instead of one of its own.
    """

    def __init__(
        self,
        public_key: str,
        *,
        home: Path | None = None,
        python: Path | None = None,
        config: Sequence[str] = (),
        host_keys: Sequence[Keypair] = (),
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="colabdev-sshd-")
        self._root = Path(self._directory.name)
        self._host_keys = host_keys or [make_keypair(self._root, "host_key")]
        (self._root / "authorized_keys").write_text(public_key.strip() + "\n")
        self._environment = _session_environment(home, python)
        self._more_config = config
        self._log_path = self._root / "log"
        self._process, port = self._start()
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.address = SshAddress("127.0.0.1", port, user, self._host_keys[0].public)

    def __enter__(self) -> Sshd:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What sshd logged so far; empty after `stop`."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def stop(self) -> None:
        """End the server and every connection to it, as when the machine goes. Harmless twice."""
        if self._process.poll() is None:
            connections = _children(self._process.pid)
            self._process.kill()
            self._process.wait()
            for pid in connections:
                _kill(pid)
        self._directory.cleanup()

    def _start(self) -> tuple[subprocess.Popen[bytes], int]:
        """The server and its port. Between choosing a free port and taking it another process may
        be faster; then sshd ends and the next port is tried."""
        program = _program()
        for _ in range(START_TRIES):
            port = _free_port()
            config = self._root / "config"
            config.write_text(self._config(port))
            with self._log_path.open("wb") as log:
                process = subprocess.Popen(
                    [program, "-D", "-e", "-f", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            if self._answers(process, port):
                return process, port
            process.kill()
            process.wait()
        message = f"cannot start sshd: {self.log}"
        self._directory.cleanup()
        raise RuntimeError(message)

    def _answers(self, process: subprocess.Popen[bytes], port: int) -> bool:
        """Whether this very process came up: its own log says so, and the port shows a banner."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            if f"port {port}." in self.log and _banner(port).startswith(b"SSH-2.0-"):
                return True
            time.sleep(0.01)
        return False

    def _config(self, port: int) -> str:
        lines = [
            *self._more_config,
            "ListenAddress 127.0.0.1",
            f"Port {port}",
            *(f'HostKey "{key.private}"' for key in self._host_keys),
            f'AuthorizedKeysFile "{self._root / "authorized_keys"}"',
            "PidFile none",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            # The key files lie in a temporary directory, whose parents are not the user's.
            "StrictModes no",
            "Subsystem sftp internal-sftp",
            "AllowTcpForwarding local",
            "MaxStartups 200:30:400",
            "MaxSessions 200",
            "UseDNS no",
            "LogLevel VERBOSE",
        ]
        if self._environment:
            # Only the first SetEnv of a configuration counts, so all of it goes on one line.
            pairs = (f'"{name}={value}"' for name, value in self._environment.items())
            lines.append("SetEnv " + " ".join(pairs))
        return "\n".join(lines) + "\n"


def _session_environment(home: Path | None, python: Path | None) -> dict[str, str]:
    environment = {}
    if home is not None:
        environment["HOME"] = str(home)
    if python is not None:
        environment["PATH"] = f"{python}:{SYSTEM_PATH}"
    return environment


def _program() -> str:
    """The path of sshd, absolute because it starts itself anew for each connection."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if program is None:
        raise FileNotFoundError("the tests need OpenSSH's sshd (package openssh-server)")
    if os.geteuid() == 0:
        # sshd confines itself to this directory before login; where no init system ran, as in a
        # container, nobody has made it.
        Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
    return program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _banner(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_S) as connection:
            return connection.recv(64)
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    """The server's connection processes; each leads a session, so no group signal finds them."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, check=False)
        return [int(word) for word in listed.stdout.split()]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # It may have ended by itself meanwhile.
        os.kill(pid, signal.SIGKILL)
