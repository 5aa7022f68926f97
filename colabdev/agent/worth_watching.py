"""The folders and files of a project that are worth watching, as its rules have them.

Only folders that the rules enter are watched, so what is ignored costs nothing and wakes nobody. Paths
are relative to the project and '/'-separated; one of a folder ends with '/'.
"""

from __future__ import annotations

import os
from typing import Collection, List, NamedTuple, Optional, Sequence, Set

from . import tree
from .listing import ignores_itself
from .rules import IGNORED, PROJECT, Folder, Rules

ANYTHING = ""
"""In the place of a path: nobody knows what changed."""


class Unwatchable(Exception):
    """The system does not tell of changes here; the text says why."""


class Watching:
    """What both ways to notice have in common."""

    how = ""

    def wait(self, timeout_s: float, wakes: Sequence[int] = ()) -> Set[str]:
        """What changed; nothing after `timeout_s`, or once one of the descriptors can be read."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what the system holds for it."""


class Known(NamedTuple):
    """What belongs to the project whatever the rules say: files that git tracks, or sync put there."""

    paths: Collection[str]
    folders: Set[str]
    """Those above them, ending with '/'."""


def known(paths: Collection[str]) -> Known:
    """These files."""
    folders: Set[str] = set()
    for path in paths:
        end = path.rfind("/") + 1
        while end and path[:end] not in folders:
            folders.add(path[:end])
            end = path.rfind("/", 0, end - 1) + 1
    return Known(paths, folders)


class Walk:
    """The folders and files of a project, as its rules have them."""

    def __init__(self, root: str, rules: Rules, files: Known) -> None:
        self.root = root
        self._rules = rules
        self._files = files

    def top(self) -> Folder:
        return self._rules.root()

    def enter(self, folder: Folder, name: str) -> Optional[Folder]:
        """The folder of that name in `folder`; None when nothing in it matters."""
        path = folder.path + name + "/"
        if name.lower() == ".git" or path == tree.OURS + "/":
            return None
        below = self._rules.enter(folder, path)
        if below is None and path in self._files.folders:
            return Folder(path, folder.sets, IGNORED)
        return below

    def matters(self, folder: Folder, name: str) -> bool:
        """Whether a file of that name in `folder` belongs to the project."""
        path = folder.path + name
        if name.lower() == ".git":
            return False
        return self._rules.kind(folder, path) == PROJECT or path in self._files.paths

    def matters_at(self, path: str) -> bool:
        """Whether a file at that path belongs to the project, wherever it lies."""
        above, _, name = path.rpartition("/")
        if path.split("/", maxsplit=1)[0] == tree.OURS or ".git" in above.lower().split("/"):
            return False
        folder = self._rules.find_folder(above + "/" if above else "")
        return self.matters(folder, name) if folder is not None else path in self._files.paths

    def list(self, folder: Folder) -> Optional[List["os.DirEntry[str]"]]:
        """What lies in a folder; None when it went, or ignores all of itself."""
        try:
            with os.scandir(self.root + "/" + folder.path) as found:
                entries = list(found)
        except OSError:
            return None
        if any(entry.name == ".gitignore" for entry in entries) and ignores_itself(
            self.root, self._rules, folder, self._files.paths
        ):
            return None
        return entries
