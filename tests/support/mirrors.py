"""A work dir with a mirror of its own, and the Drive that it keeps it on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colabdev.adapters.agent_archive import AgentArchive
from colabdev.adapters.agent_client import start_agent
from colabdev.adapters.processes import LocalTransport
from colabdev.agent import archive, changes, sync, tree
from colabdev.agent.changes import Change
from colabdev.agent.stamps import Index
from tests.support.agents import Talk
from tests.support.house import is_running
from tests.support.waiting import wait_until

MARKER = {"computer": "mine", "project": "/home/me/digits"}
QUICK = {"tick_s": 0.02, "look_s": 0.05, "settle_s": 0.2, "limit_s": 30.0, "retry_s": 0.1}
"""Patience for tests: as the real one, divided by a hundred."""


@dataclass
class Mirrored:
    """`root/content/digits`, kept on `root/drive`; `python` runs the agent."""

    root: Path
    agent: AgentArchive
    python: Path = Path(sys.executable)
    talks: list[Talk] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in (self.drive, self.local, self.root / "bin"):
            folder.mkdir(parents=True)
        (self.root / "bin" / "python3").symlink_to(self.python)

    @property
    def workdir(self) -> Path:
        return self.root / "content" / "digits"

    @property
    def local(self) -> Path:
        return self.root / "local"

    @property
    def drive(self) -> Path:
        return self.root / "drive"

    @property
    def code(self) -> Path:
        return self.drive / "colabdev" / "digits" / "code"

    def talk(self) -> Talk:
        """An agent, as a keeper starts it."""
        environment = {"HOME": str(self.root / "home"), "PATH": f"{self.root}/bin:/usr/bin:/bin"}
        (self.root / "home").mkdir(exist_ok=True)
        running = start_agent(LocalTransport(environment=environment), self.agent)
        self.talks.append(Talk(running.process, running.hello.pid))
        return self.talks[-1]

    def sync(self, files: Mapping[str, str | bytes]) -> None:
        """Put these into the work dir as sync does."""
        steps = []
        for path, content in files.items():
            file = self.local / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        for entry in tree.scan(str(self.local), sorted(files), Index()).entries:
            steps.append(Change(changes.SEND, entry.path, "", entry))
        frames = changes.pack(steps, lambda entry: iter([(self.local / entry.path).read_bytes()]))
        upload = _Frames(frames)
        arguments = {"workdir": str(self.workdir), "marker": MARKER}
        answer, _ = sync.apply(arguments, upload)  # type: ignore[arg-type]
        assert answer["failures"] == [], answer

    def start(self, timing: Mapping[str, float] | None = None) -> int:
        """Start the daemon by hand, with this patience; its process id."""
        program = self.root / f"agent-{self.agent.digest}"
        program.write_bytes(self.agent.content)
        patience = json.dumps(timing or QUICK)
        words = [self.python, "-I", "-S", program, "mirror", self.workdir, patience]
        subprocess.run(list(map(str, words)), check=True, timeout=30)
        return self.daemon()

    def daemon(self) -> int:
        """The daemon that runs, once it has said something."""
        return wait_until(self._living, timeout_s=20, message=f"no mirror: {self.said()}")

    def _living(self) -> int:
        pid = int(self.said().get("pid", 0))
        return pid if pid and is_running(pid) else 0

    def ask(self) -> None:
        """Tell the daemon which Drive to use; it looks at once."""
        document = {
            "number": time.time_ns(),
            "agent": f"agent-{self.agent.digest}",
            "drive_dir": str(self.drive),
        }
        staging = self.workdir / ".colabdev" / "ask.tmp"
        staging.write_text(json.dumps(document))
        staging.rename(self.workdir / ".colabdev" / "ask.json")

    def said(self) -> dict[str, Any]:
        """How the mirror stands by its own word."""
        try:
            text = (self.workdir / ".colabdev" / "mirror.json").read_text()
        except FileNotFoundError:
            return {}
        document: dict[str, Any] = json.loads(text)
        return document

    def names(self) -> list[str]:
        """The archives on Drive."""
        return sorted(os.listdir(self.code)) if self.code.is_dir() else []

    def whole(self) -> dict[str, dict[str, bytes]]:
        """The archives on Drive that verify, each with its files."""
        found = {}
        for name in self.names():
            with (self.code / name).open("rb") as file:
                try:
                    packed = archive.Archive(file)
                    packed.verify()
                except archive.Broken:
                    continue
                found[name] = {
                    entry.path: b"".join(packed.content(entry)) for entry in packed.entries
                }
        return found

    def wait_for(self, files: Mapping[str, str], timeout_s: float = 20) -> None:
        """Until an archive on Drive that verifies has exactly these files."""
        wanted = {path: content.encode() for path, content in files.items()}
        wait_until(
            lambda: wanted in self.whole().values(),
            timeout_s=timeout_s,
            message=f"not on Drive: {self.said()}",
        )

    def close(self) -> None:
        """End everything that was started here."""
        for talk in self.talks:
            talk.process.close()
        pid = int(self.said().get("pid", 0))
        (self.workdir / ".colabdev" / "mirror.lock").unlink(missing_ok=True)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            wait_until(lambda: not is_running(pid), timeout_s=20, message="it does not end")


class _Frames:
    """An upload whose frames are here."""

    def __init__(self, frames: Iterator[changes.Frame]) -> None:
        self._frames = frames

    def next_frame(self) -> changes.Frame:
        return next(self._frames)
