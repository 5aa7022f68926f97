"""A project on a runtime, as the tests of sync see it from both sides."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colabdev.agent import tree
from tests.support.house import House


@dataclass(frozen=True, slots=True)
class SyncedFolder:
    """A project of the house's, and its work dir in the sandbox."""

    house: House
    local: Path
    remote: Path

    def sync(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """`colabdev sync --json`, which must end with `code`."""
        done = self.type("sync", "--json", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def type(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return self.house.colabdev(*arguments, cwd=self.local, timeout_s=timeout_s)

    def write(self, path: str, content: bytes | str = "content") -> Path:
        file = self.local / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def assert_equal(self) -> None:
        """Both sides have the same files, links and executable bits."""
        assert look(self.remote) == look(self.local)


def make_synced_folder(house: House, name: str) -> SyncedFolder:
    """A new, empty project of the house's one runtime."""
    local = house.project.parent / name
    local.mkdir()
    machine = house.record().machine
    assert machine is not None
    return SyncedFolder(house, local, Path(machine.content_dir) / name)


def look(root: Path) -> dict[str, tuple[object, ...]]:
    """What lies below `root`, but for our own folder and git's."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in (tree.OURS, ".git")]
        for name in files + [name for name in folders if (Path(folder) / name).is_symlink()]:
            path = Path(folder) / name
            place = path.relative_to(root).as_posix()
            if path.is_symlink():
                found[place] = ("link", os.readlink(path))
            else:
                found[place] = ("file", os.access(path, os.X_OK), path.read_bytes())
    return found
