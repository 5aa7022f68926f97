"""A job whose checkpoints are carried: its work dir, its trainer (the test), and the agent to ask."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colabdev.adapters.agent_archive import AgentArchive
from colabdev.adapters.agent_client import start_agent
from colabdev.adapters.processes import LocalTransport
from colabdev.agent import jobdir, manifest
from colabdev.agent.claims import Claims, read_claims
from tests.support.agents import Talk
from tests.support.colab import Colab
from tests.support.house import is_running
from tests.support.waiting import wait_until

QUICK = {
    "tick_s": 0.02,
    "settle_s": 0.1,
    "retry_s": 0.05,
    "stall_s": 2.0,
    "arrive_s": 5.0,
    "silent_s": 0.3,
}
"""Patience for tests: as the real one, divided by about thirty."""


@dataclass
class Carried:
    """`root/content/digits` with one job in it at a time, and what is asked of the agent."""

    root: Path
    archive: AgentArchive
    python: Path = Path(sys.executable)
    stores: tuple[str, ...] = ("local",)
    api_url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    accept: str = "confirmed"
    keep: int = 3
    dirs: tuple[str, ...] = ("runs/*/checkpoints",)
    timing: Mapping[str, float] = field(default_factory=lambda: QUICK)
    job: str = ""
    attempt: int = 1
    began: Mapping[str, int] | None = None
    """Attempt and step that this one goes on from."""
    talks: list[Talk] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    """What must be in no file of the runtime's."""

    def __post_init__(self) -> None:
        for folder in (self.drive, self.checkpoints, self.root / "bin", self.root / "home"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.root / "memory").mkdir(exist_ok=True)
        if not (self.root / "bin" / "python3").is_symlink():
            (self.root / "bin" / "python3").symlink_to(self.python)

    @property
    def workdir(self) -> Path:
        return self.root / "content" / "digits"

    @property
    def drive(self) -> Path:
        return self.root / "drive"

    @property
    def checkpoints(self) -> Path:
        """Where the trainer writes."""
        return self.workdir / "runs" / "a" / "checkpoints"

    @property
    def directory(self) -> Path:
        return self.root / "home" / ".colabdev" / "jobs" / self.job

    @property
    def stored(self) -> Path:
        """The job's folder in a store that is a directory."""
        return self.drive / "colabdev" / "digits" / "runs" / self.job

    def talk(self) -> Talk:
        environment = {
            "HOME": str(self.root / "home"),
            "PATH": f"{self.root / 'bin'}:/usr/bin:/bin",
            "COLABDEV_MEMORY_DIR": str(self.root / "memory"),
            **self.environment,
        }
        running = start_agent(LocalTransport(environment=environment), self.archive)
        self.talks.append(Talk(running.process, running.hello.pid))
        return self.talks[-1]

    def spec(self, command: str = "sleep 1000", **more: object) -> dict[str, object]:
        """Of a job that does nothing by itself: the test is its trainer."""
        self.job = self.job or jobdir.job_id("train", "261120", os.urandom(4))
        return {
            "schema": 1,
            "id": self.job,
            "name": "train",
            "attempt": self.attempt,
            "from": self.began,
            "kind": jobdir.COMMAND,
            "argv": ["sh", "-c", command],
            "typed": ["sh", "-c", command],
            "runtime": f"runtime-{self.attempt}",
            "workdir": str(self.workdir),
            "created": time.time(),
            "checkpoints": {
                "dirs": list(self.dirs),
                "keep": self.keep,
                "stores": list(self.stores),
                "accept": self.accept,
                "project": "digits",
                "drive_dir": str(self.drive),
                "api_url": self.api_url,
                "timing": dict(self.timing),
            },
            **more,
        }

    def start(self, command: str = "sleep 1000", **more: object) -> None:
        """Start the job."""
        self.talk().request("job.start", spec=self.spec(command, **more))

    def lay_out(self) -> None:
        """The job as it is when it has ended; its carrier is `run` by hand."""
        spec = self.spec()
        self.directory.mkdir(parents=True)
        (self.directory / "spec.json").write_text(json.dumps(spec))
        status = {"schema": 1, "attempt": self.attempt, "state": "succeeded", "exit_code": 0}
        (self.directory / "status.json").write_text(json.dumps(status))
        (self.root / "agent.pyz").write_bytes(self.archive.content)

    def run(self, **environment: str) -> int:
        """Have a carrier do all that there is to do; how it ended."""
        words = [self.python, "-I", "-S", self.root / "agent.pyz", "carry", self.directory]
        done = subprocess.run(
            list(map(str, words)),
            env={"PATH": "/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == "", done.stderr
        return done.returncode

    def claims(self) -> Claims:
        """What is claimed now."""
        return read_claims(str(self.directory / "checkpoints" / "journal.jsonl"))

    def is_in_store(self, place: str) -> bool:
        """Whether a checkpoint there is whole, for whoever finds it in a store that is a directory."""
        folder = self.stored / "checkpoints" / place
        try:
            return manifest.damage(str(folder), manifest.read(str(folder))) is None
        except (OSError, manifest.BadManifest):
            return False

    def save(self, step: int, size: int = 20_000, **about: object) -> dict[str, bytes]:
        """Write a checkpoint as the template does; its files."""
        files = {
            "state.pt": hashlib.sha256(f"{self.job}{step}".encode()).digest() * (size // 32),
            "config.json": json.dumps({"step": step}).encode(),
        }
        staging = self.checkpoints / f".saving-{os.getpid()}"
        staging.mkdir()
        for name, content in files.items():
            (staging / name).write_bytes(content)
        manifest = {"step": step, **about, "files": [entry(*row) for row in files.items()]}
        (staging / "MANIFEST.json").write_text(json.dumps(manifest))
        staging.rename(self.checkpoints / f"step-{step:06d}")
        return files

    def standing(self) -> dict[str, Any]:
        """What `checkpoint.list` says of the job."""
        answer = self.talk_once("checkpoint.list", job=self.job)
        (told,) = answer["jobs"]
        return dict(told)

    def talk_once(self, kind: str, **arguments: object) -> dict[str, Any]:
        """One request to an agent of its own."""
        if not self.talks:
            self.talk()
        return dict(self.talks[0].request(kind, **arguments))

    def stream(self, kind: str, **arguments: object) -> list[dict[str, Any]]:
        """All frames of an answer."""
        talk = self.talk()
        return [dict(header) for header, _ in talk.stream(kind, job=self.job, **arguments)]

    def levels(self) -> dict[str, str]:
        return {row["name"]: row["level"] for row in self.standing()["checkpoints"]}

    def wait_for(self, name: str, level: str, timeout_s: float = 20) -> None:
        """Until that checkpoint has that level."""
        wait_until(
            lambda: self.levels().get(name) == level,
            timeout_s=timeout_s,
            message=f"{name} is not {level}: {self.describe()}",
        )

    def in_stores(self, name: str) -> dict[str, str]:
        """The level of that checkpoint in each store where it has arrived."""
        for row in self.standing()["checkpoints"]:
            if row["name"] == name:
                levels: dict[str, str] = row["levels"]
                return {
                    store: level
                    for store, level in levels.items()
                    if level in ("published", "confirmed")
                }
        return {}

    def describe(self) -> str:
        journal = self.directory / "checkpoints" / "journal.jsonl"
        text = journal.read_text() if journal.exists() else "no journal"
        log = self.directory / "supervisor.log"
        return f"{self.standing()}\n{text}\n{log.read_text() if log.exists() else ''}"

    def events(self) -> list[dict[str, Any]]:
        """The journal's lines."""
        journal = self.directory / "checkpoints" / "journal.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [json.loads(line) for line in lines]

    def carrier(self) -> int:
        """The carrier's process, once there is one."""
        return wait_until(self._living, message="there is no carrier")

    def _living(self) -> int:
        try:
            told = json.loads((self.directory / "checkpoints" / "told.json").read_text())
        except (FileNotFoundError, ValueError):
            return 0
        return int(told["pid"]) if is_running(int(told["pid"])) else 0

    def close(self) -> None:
        """End the job and everything of it."""
        for directory in (self.root / "home" / ".colabdev" / "jobs").glob("train-*"):
            if not (directory / "status.json").exists():
                self.talk().request("job.stop", id=directory.name, grace_s=0)
        for pid in processes_with(str(self.root)):
            os.kill(pid, signal.SIGKILL)
        for talk in self.talks:
            talk.process.close()


def give_token(
    colab: Colab,
    carried: Carried,
    scope: str = "drive.file",
    *,
    seconds: float = 3600,
    refreshed: bool = False,
) -> None:
    """Send the runtime a token, and what to get others with if it may be left alone."""
    scopes = ["https://www.googleapis.com/auth/" + scope]
    tokens = colab.tokens(scopes=scopes)
    refresh = {
        "token": tokens["refresh_token"],
        "client_id": tokens["client_id"],
        "client_secret": "not so secret",
        "url": f"{colab.base_url}/token",
    }
    carried.secrets += [tokens["access_token"], tokens["refresh_token"]]
    carried.talk_once(
        "checkpoint.token",
        access_token=tokens["access_token"],
        expires=time.time() + seconds,
        scopes=scopes,
        refresh=refresh if refreshed else None,
    )


def entry(path: str, content: bytes) -> dict[str, object]:
    """A file as a manifest tells it."""
    hashes = {"sha256": hashlib.sha256(content), "md5": hashlib.md5(content)}
    told = {name: one.hexdigest() for name, one in hashes.items()}
    return {"path": path, "size": len(content), **told}


def processes_with(text: str) -> list[int]:
    """Those of the agent's that have it on their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"carry" in words and text.encode() in b" ".join(words):
            found.append(int(place.name))
    return found
