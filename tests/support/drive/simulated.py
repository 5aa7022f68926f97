"""A simulated Drive in a test's hands."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.drive.cloud import Cloud
from tests.support.drive.faults import Faults
from tests.support.drive.folder import CarriedFolder
from tests.support.waiting import wait_until

FUSE = Path("/dev/fuse")


class FuseDrive:
    """Mounted at `mountpoint` by a process of its own; both end with the test."""

    def __init__(
        self, folder: Path, faults: Faults | None = None, *, at: Path | None = None
    ) -> None:
        if not FUSE.exists():
            pytest.skip("this computer has no /dev/fuse")
        folder.mkdir(parents=True, exist_ok=True)
        self.faults = faults or Faults()
        self.cloud = Cloud(folder / "cloud")
        self.mountpoint = at or folder / "drive"
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.mount()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lose_machine()

    def mount(self) -> None:
        """As a machine does, new or not, that sees what the cloud has."""
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        program = [sys.executable, "-m", "tests.support.drive.mount"]
        self._process = subprocess.Popen(
            [*program, self._folder, self.mountpoint, self.faults.to_json()],
            stdin=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        wait_until(
            lambda: os.path.ismount(self.mountpoint) or self._has_ended(),
            message="Drive is not mounted",
        )
        assert not self._has_ended(), "the mount ended at once"

    def set(self, **changes: Any) -> None:
        """Other faults from now on."""
        self.faults = replace(self.faults, **changes)
        self._say(self.faults.to_json())

    def crash(self) -> None:
        """The process that serves it dies: calls fail with ENOTCONN until it is mounted again."""
        self._say("die")
        self._collect()

    def remount(self) -> None:
        """Mount it again after a crash. What had not arrived is on the disk still, and the real
        one may go on with it; this one forgets it."""
        self._unmount()
        self.mount()

    def lose_machine(self) -> None:
        """The machine is gone, with all that had not arrived."""
        if self._process is not None:
            self._process.kill()
            self._collect()
        self._unmount()
        shutil.rmtree(self._folder / "cache", ignore_errors=True)

    def _collect(self) -> None:
        assert self._process is not None, "it was mounted"
        assert self._process.stdin is not None
        self._process.wait(10)
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process = None

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _say(self, line: str) -> None:
        assert self._process is not None, "it is mounted"
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _unmount(self) -> None:
        command = ["fusermount3", "-u", "-z", str(self.mountpoint)]
        subprocess.run(command, capture_output=True, check=False, timeout=10)


class FolderDrive:
    """The same by a plain folder, in this process."""

    def __init__(self, folder: Path, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.cloud = Cloud(folder / "cloud")
        self.mountpoint = folder / "drive"
        self.mount()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lose_machine()

    def mount(self) -> None:
        self._carried: CarriedFolder | None = CarriedFolder(
            self.cloud, self.mountpoint, self.faults
        )

    def set(self, **changes: Any) -> None:
        self.faults = replace(self.faults, **changes)
        if self._carried is not None:
            self._carried.carrier.faults = self.faults

    def lose_machine(self) -> None:
        if self._carried is not None:
            self._carried.end()
            self._carried = None


SimulatedDrive = FuseDrive | FolderDrive
FORMS: dict[str, Callable[..., SimulatedDrive]] = {"fuse": FuseDrive, "folder": FolderDrive}


def attribute(path: Path, name: str) -> str:
    """What Drive says of a file; "" when it says nothing."""
    try:
        return os.getxattr(path, f"user.drive.{name}").decode()
    except OSError:
        return ""


def is_committed(path: Path) -> bool:
    """Whether Drive says that all of the file arrived."""
    return attribute(path, "uncommitted") == "0" and not attribute(path, "id").startswith("local-")
