"""Files that refuse to be written, also by root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def read_only_mount(place: Path) -> Iterator[None]:
    """A file or directory of a read-only file system. Needs root; the test is skipped without, never
    in CI."""
    _root(["mount", "--bind", str(place), str(place)])
    try:
        _root(["mount", "-o", "remount,bind,ro", str(place)])
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _root(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
