"""Empty folders: no file brings them along, so both ends tell each other of them.

A tree consists of files and links. A folder that holds nothing at all, and that no rule ignores, is told
by its name; once both sides had it, it is kept in step by whether it is there, whatever comes to lie in
it. So what a job leaves in a folder of checkpoints does not make the folder look deleted.
"""

from __future__ import annotations

import os
from typing import Any, Container, Iterable, List

from .tree import Folders

ABSENT = ""
EMPTY = "empty"
FULL = "full"


def state_of(folders: Folders, path: str) -> str:
    """What stands at `path`; what is no folder, or lies behind a link, is absent."""
    folders.forget()
    if not folders.is_real(path):
        return ABSENT
    try:
        with os.scandir(folders.locate(path)) as entries:
            return FULL if next(entries, None) is not None else EMPTY
    except FileNotFoundError:
        return ABSENT
    except OSError:
        return FULL  # It may hold anything.


def unsettled(
    folders: Folders, both_had: Container[str], told: Container[str], paths: Iterable[str]
) -> List[List[Any]]:
    """`[path, whether both sides had it, how it is here]` of each that is not written down as what both
    have, is not here, or was not told by the other side."""
    rows = []
    for path in sorted(paths):
        state = state_of(folders, path)
        if not (state and path in both_had and path in told):
            rows.append([path, path in both_had, state])
    return rows
