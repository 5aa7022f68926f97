"""This computer, as far as `doctor` looks at it."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from colabdev.adapters.dial import dial
from colabdev.adapters.processes import ask, ssh_version
from colabdev.core.editors import EDITORS
from colabdev.models import Editor

_REACH_TIMEOUT_S = 5.0


class ThisComputer:
    """`ports.Computer`."""

    def ssh_version(self) -> str | None:
        return ssh_version()

    def mode(self, path: Path) -> int | None:
        if sys.platform == "win32" or not path.exists():
            return None
        return stat.S_IMODE(path.stat().st_mode)

    def clock_ahead_s(self, directory: Path) -> float:
        before = time.time()
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".doctor.") as file:
            file.write(b".")
            file.flush()
            written = os.stat(file.name).st_mtime
        after = time.time()
        return written - min(max(written, before), after)

    def newest_s(self, directory: Path) -> float | None:
        if not directory.is_dir():
            return None
        times = [entry.stat().st_mtime for entry in os.scandir(directory) if entry.is_file()]
        return time.time() - max(times) if times else None

    def free_bytes(self, path: Path) -> int:
        nearest = next(parent for parent in (path, *path.parents) if parent.exists())
        return shutil.disk_usage(nearest).free

    def listen_on_loopback(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.reach("127.0.0.1", server.getsockname()[1])

    def reach(self, host: str, port: int) -> None:
        dial(host, port, timeout_s=_REACH_TIMEOUT_S).close()

    def editors(self) -> Sequence[Editor]:
        return [_editor(command) for command in EDITORS if shutil.which(command)]


def _editor(command: str) -> Editor:
    version = _ask(command, "--version")
    extensions = _ask(command, "--list-extensions")
    return Editor(
        command=command,
        version=version.splitlines()[0].strip() if version else "",
        extensions=None
        if extensions is None
        else frozenset(line.strip().lower() for line in extensions.splitlines()),
    )


def _ask(command: str, question: str) -> str | None:
    """What the editor answers; None without an answer in time."""
    program = shutil.which(command)  # With its suffix: on Windows they are .cmd files.
    done = ask([program or command, question])
    return done.stdout.decode("utf-8", "replace") if done and done.returncode == 0 else None
