"""A user's computer of its own: home, state and SSH files in one directory, and the real CLI."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from colabdev.adapters.broker import KeeperClient
from colabdev.adapters.host_entries import SshFiles
from colabdev.adapters.keepers import LocalKeepers, spawn_keeper
from colabdev.adapters.store import FileStore
from colabdev.config.places import Places
from colabdev.errors import StateUnreadable
from colabdev.models import RuntimeRecord
from colabdev.providers.local import LocalProvider, find_login
from tests.support.command_lines import run_colabdev

PYTHON_BIN = Path(sys.base_prefix, "bin")


class House:
    """Isolated from this user's own files; leaves no process behind."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.project = root / "project"
        for directory in (self.home, self.project):
            directory.mkdir(parents=True)
        kept = ("PATH", "LANG", "PYENV_ROOT", "TMPDIR")
        self.environment = {key: os.environ[key] for key in kept if key in os.environ}
        # pyenv's stand-in for python3 is a script of thirty processes, for each sandbox that starts.
        self.environment["PATH"] = os.pathsep.join((str(PYTHON_BIN), os.environ["PATH"]))
        self.environment["HOME"] = str(self.home)
        self.environment |= Places(
            state_dir=root / "state",
            config_dir=root / "config",
            ssh_config=self.home / ".ssh" / "config",
        ).variables()
        self.places = Places.from_environment(self.environment)
        self.store = FileStore(self.places.state_dir)
        self.ssh_files = SshFiles(self.places.ssh_config)
        self.keepers = LocalKeepers(self.store, lambda name: spawn_keeper(name, self.environment))
        self.provider = LocalProvider(self.places.local_dir, lambda: find_login(os.environ))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.places.state_dir.is_dir():
            return
        for name in self.store.names():
            self.end_keeper(name)
        for name in self.provider.names():
            self.provider.release(name)

    def colabdev(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60,
        forks: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line as a user would; `forks` as for `run_colabdev`."""
        return run_colabdev(
            [str(argument) for argument in arguments],
            cwd=cwd or self.project,
            environment={**self.environment, **(env or {})},
            timeout_s=timeout_s,
            forks=forks,
        )

    def connect(self, name: str = "local") -> RuntimeRecord:
        """A local runtime of that name, ready."""
        done = self.colabdev("connect", name, "--provider", "local")
        assert done.returncode == 0, done.stderr
        return self.record(name)

    def status(self) -> list[dict[str, Any]]:
        """The runtimes as `status --json` has them."""
        done = self.colabdev("status", "--json", cwd=self.home)
        assert done.returncode == 0, done.stderr
        runtimes: list[dict[str, Any]] = json.loads(done.stdout)["runtimes"]
        return runtimes

    def record(self, name: str = "local") -> RuntimeRecord:
        """The runtime's record, which must be there."""
        record = self.store.load(name)
        assert record is not None, f"no record of {name}"
        return record

    def change(
        self, change: Callable[[RuntimeRecord], RuntimeRecord], name: str = "local"
    ) -> RuntimeRecord:
        """Edit the runtime's record behind everyone's back."""
        record = self.store.update(name, change)
        assert record is not None, f"no record of {name}"
        return record

    def move(self, port: int, name: str = "local") -> None:
        """Give the runtime's address another port, as a tunnel does."""

        def moved(record: RuntimeRecord) -> RuntimeRecord:
            assert record.machine is not None, f"{name} has no address"
            address = replace(record.machine.ssh, port=port)
            return replace(record, machine=replace(record.machine, ssh=address))

        self.change(moved, name)

    def keeper(self, name: str = "local") -> KeeperClient:
        """The runtime's keeper, started when none runs."""
        return self.keepers.ensure(name)

    def keeper_pid(self, name: str = "local") -> int:
        """The process of the runtime's running keeper."""
        keeper = self.record(name).keeper
        assert keeper is not None, f"no keeper of {name}"
        return keeper.pid

    def end_keeper(self, name: str = "local") -> None:
        """kill -9, when there is one."""
        try:
            record = self.store.load(name)
        except StateUnreadable:
            return  # Its keeper sees that its record is gone, and ends.
        keeper = record.keeper if record else None
        if keeper is not None and is_running(keeper.pid):
            os.kill(keeper.pid, signal.SIGKILL)

    def keeper_log(self, name: str = "local") -> str:
        """What the runtime's keeper wrote down."""
        return (self.places.log_dir / f"keeper-{name}.log").read_text()


def is_running(pid: int) -> bool:
    """A process of that id exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
