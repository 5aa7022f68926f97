"""A close look at a few files of a tree, where somebody told which ones changed.

It says what a look at all of them would say of these, or nothing at all: where more may be different
than these files, only the look at all of them tells.
"""

from __future__ import annotations

import os
from typing import Collection, Dict, Optional

from . import tree
from .piles import CHECKPOINTS
from .stamps import Index

MAX_FILES = 200
MAX_BYTES = 512 * 1024
"""So much changes in one go when people type; for more, all files are looked at, and it is compared what
is where already."""


def look(
    root: str,
    paths: Collection[str],
    index: Index,
    max_bytes: Optional[int],
    folders: Collection[str],
) -> Optional[Dict[str, Optional[tree.Entry]]]:
    """The entry at each path, None where nothing is any more. None in place of them all when that is not
    the whole story: a folder, a problem, a pile of checkpoints, a folder that was emptied, or one of
    `folders`, which were empty and are kept in step by themselves: it is not empty any more, or gone.
    """
    if len(paths) > MAX_FILES or any(not path or path.endswith(_ODD) for path in paths):
        return None
    if folders and any(_is_in_one(path, folders) for path in paths):
        return None
    scan = tree.scan(root, sorted(paths), index, tree.Limits(max_bytes))
    if scan.problems or scan.folders:
        return None
    found: Dict[str, Optional[tree.Entry]] = dict.fromkeys(paths)
    found.update((entry.path, entry) for entry in scan.entries)
    real = tree.Folders(root)
    gone = [path for path, entry in found.items() if entry is None]
    return found if all(_just_went(real, path) for path in gone) else None


_ODD = ("/", *CHECKPOINTS)


def _is_in_one(path: str, folders: Collection[str]) -> bool:
    """Whether one of the folders is at the path or above it."""
    while path and path not in folders:
        path = path.rpartition("/")[0]
    return bool(path)


def _just_went(real: tree.Folders, path: str) -> bool:
    """Whether the file is all that went: what it lay in holds something still, or went with it."""
    folder = path.rpartition("/")[0]
    while folder and not os.path.lexists(real.locate(folder)):
        folder = folder.rpartition("/")[0]
    if not folder:
        return True
    try:
        if not real.is_real(folder):
            return False
        with os.scandir(real.locate(folder)) as entries:
            return next(entries, None) is not None
    except OSError:
        return False
