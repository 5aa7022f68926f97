"""Locks on files. What they take is loaded with the first one: most commands need none."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import FileLock


def file_lock(path: Path, timeout_s: float = -1) -> FileLock:
    """A lock on the file, which is made when there is none. To acquire it raises TimeoutError when
    somebody else holds it for longer; -1: it is waited for."""
    lock: FileLock = importlib.import_module("filelock").FileLock(
        path, timeout=timeout_s, mode=0o600
    )
    return lock
