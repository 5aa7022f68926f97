"""A machine that trains and dies: its disk, its processes and its mount of Drive go at one moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from tests.support.drive import trainer
from tests.support.drive.simulated import SimulatedDrive
from tests.support.house import is_running
from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that the trainer had finished."""

    step: int
    saved: float
    """Seconds since the epoch."""
    path: str
    sha256: str


class Machine:
    """`root/disk` is its disk, which every process of its names, and is found by that."""

    def __init__(self, root: Path, drive: SimulatedDrive) -> None:
        self.drive = drive
        self.disk = root / "disk"
        self.home = self.disk / "root"
        self.content = self.disk / "content"
        self.log = root / "processes.log"
        self._children: list[subprocess.Popen[bytes]] = []
        for folder in (self.home, self.content):
            folder.mkdir(parents=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def environment(self) -> Mapping[str, str]:
        return {"HOME": str(self.home), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}

    def start(self, argv: Sequence[object]) -> int:
        """A process of the machine's; its id."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*map(str, argv)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.content,
                start_new_session=True,
            ).pid

    def train(
        self, directory: Path, *, size: int, interval_s: float, in_place: bool = False
    ) -> int:
        """Have checkpoints written into that directory from now on; the trainer's process."""
        program = [sys.executable, "-I", "-S", trainer.__file__]
        words = [directory, str(size), str(interval_s), self._saved_file]
        return self.start([*program, *words, *(["--in-place"] if in_place else [])])

    def saved(self) -> list[Saved]:
        """What the trainer had finished."""
        return read_saved(self._saved_file)

    def wait_for_saves(self, count: int, timeout_s: float = 20.0) -> None:
        wait_until(
            lambda: len(self.saved()) >= count,
            timeout_s=timeout_s,
            message=f"the trainer saves nothing: {self.log.read_text()[-2000:]}",
        )

    def kill(self) -> None:
        """All of it at once, but for the disk, for a look at it; Drive keeps what arrived."""
        self.drive.lose_machine()
        end_processes(self.disk)
        for child in self._children:
            child.wait(10)

    def bury(self) -> None:
        """The disk goes, too."""
        shutil.rmtree(self.disk)

    @property
    def _saved_file(self) -> Path:
        return self.disk.parent / "saved.jsonl"


def end_processes(disk: Path) -> None:
    """kill -9 every process that names that disk, until there is none."""
    while alive := _processes(os.fsencode(disk)):
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(partial(_have_ended, alive), message="a process goes on")


def read_saved(path: Path) -> list[Saved]:
    """What a trainer had finished, oldest first; known after its machine's death as well."""
    with suppress(FileNotFoundError):
        lines = path.read_text().splitlines(keepends=True)
        return [Saved(**json.loads(line)) for line in lines if line.endswith("\n")]
    return []


def _processes(mark: bytes) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if any(mark in (entry / name).read_bytes() for name in ("environ", "cmdline")):
                    found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid() and is_running(pid)]


def _have_ended(pids: Sequence[int]) -> bool:
    return not any(map(is_running, pids))
