"""Files that must never be half there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import sys
import tempfile
import threading
from pathlib import Path

from colabdev.crash_points import crash_point
from colabdev.errors import StateNotWritable

log = logging.getLogger(__name__)

_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""What a file system says that has no such thing for directories, as WSL's view of Windows' drives."""


def write_atomic(
    path: Path, content: bytes, *, mode: int = 0o600, owner: tuple[int, int] | None = None
) -> None:
    """Replace `path` by `content` so that a reader, and a crash at any moment, sees the old or the new.

    `owner` is the user and group it is to belong to, where there are such.

    Raises OSError when it cannot be written; the old file is then as it was.
    """
    handle, staging = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if owner is not None and sys.platform != "win32":
            os.chown(staging, *owner)
        os.chmod(staging, mode)
        crash_point("state.staged")
        os.replace(staging, path)
        crash_point("state.replaced")
    except BaseException:
        Path(staging).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_cache(path: Path, content: bytes) -> None:
    """Replace a file with which nothing but time is lost, so that a reader sees the old or the new. The
    disk is not waited for: after a crash it may be torn, so whoever reads it must notice.

    Where it cannot be written it is left.
    """
    staging = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        os.replace(staging, path)
    except OSError as exc:
        log.info("cannot keep %s: %s", path, exc)
        with contextlib.suppress(OSError):
            os.unlink(staging)


def cache_name(root: Path) -> str:
    """What the caches begin with that are kept about the project in that folder."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:32]


def list_directory(path: Path, inside: Path) -> list[str]:
    """The names in `path`, none when there is no such directory; OSError when it cannot be read.

    A link that leads nowhere, at `path` or at `inside`, the directory it stands in, cannot be read: what
    it led to may be on a disk that is not mounted now.
    """
    try:
        # Not Path.glob: it takes a directory that it may not read for an empty one.
        return os.listdir(path)
    except FileNotFoundError:
        if path.is_symlink() or (inside.is_symlink() and not inside.exists()):
            raise
        return []


def place_folder(made: Path, target: Path) -> None:
    """Put a folder that was made elsewhere on this disk in its place. An empty one that is there already
    is kept: somebody's shell may stand in it."""
    if not target.is_dir():
        os.rename(made, target)
        return
    for entry in sorted(made.iterdir()):
        os.rename(entry, target / entry.name)


def make_private_directory(path: Path, *, what: str, variable: str) -> None:
    """Make the directory with mode 0700; `StateNotWritable` names the variable that moves it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise not_writable(path, exc, what=what, variable=variable) from exc


def not_writable(path: Path, exc: OSError, *, what: str, variable: str) -> StateNotWritable:
    """The sentence for a place that cannot be written."""
    return StateNotWritable(
        f"cannot write {what} in {path}: {exc.strerror or exc}",
        hint=f"make room or give write access there, or set {variable} to another directory",
    )


def sync_directory(path: Path) -> None:
    """Make a rename durable. Windows cannot open a directory, and needs no such thing."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(handle)
