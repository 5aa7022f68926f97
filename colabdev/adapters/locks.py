"""Locks on files. What they take is loaded with the first one: most commands need none."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from colabdev.errors import ColabdevError

if TYPE_CHECKING:
    from filelock import FileLock


def file_lock(path: Path, timeout_s: float = -1) -> FileLock:
    """A lock on the file, which is made when there is none. To acquire it raises TimeoutError when
    somebody else holds it for longer; -1: it is waited for."""
    lock: FileLock = importlib.import_module("filelock").FileLock(
        path, timeout=timeout_s, mode=0o600
    )
    return lock


@contextmanager
def held(path: Path, failed: Callable[[OSError], ColabdevError]) -> Iterator[None]:
    """Held by one process at a time, others wait; raises what `failed` says when that is impossible."""
    lock = file_lock(path)
    try:
        lock.acquire()
    except OSError as exc:
        raise failed(exc) from exc
    try:
        yield
    finally:
        lock.release()
