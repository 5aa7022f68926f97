"""Locks that a daemon holds for its whole life, and that the system lets go when it dies."""

from __future__ import annotations

import fcntl
import os


def is_held(path: str) -> bool:
    """Somebody holds it."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
