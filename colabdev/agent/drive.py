"""Files on mounted Drive: few, whole, each under a name of its own that is never written again.

Drive uploads what was written here when it likes, and what it has not uploaded dies with the machine. So
nothing here says more than ACCEPTED, handed to Drive; and what a machine that died left under a name
may be torn, so whoever finds a file there proves it before he trusts it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from typing import BinaryIO, Iterator, List, NamedTuple

OURS = "colabdev"

ACCEPTED = "accepted"
"""Written, flushed and closed on the mount: handed to Drive, not yet known to be in the cloud."""

_ON_COLAB = ("/content/drive", "MyDrive")
"""Where Colab mounts it. When that went, a folder of that name may stand in its place."""

PIECE_BYTES = 1024 * 1024
_MAX_NAMES = 50


class Stored(NamedTuple):
    """A file that was put on Drive."""

    path: str
    size: int
    level: str


def root_of(drive_dir: str) -> str:
    """Our folder on that Drive; OSError when no Drive is there, so that nobody writes in its place."""
    parent, name = os.path.split(drive_dir)
    is_bare = (parent, name) == _ON_COLAB and not os.path.ismount(parent)
    if is_bare or not os.path.isdir(drive_dir):
        raise OSError(errno.ENODEV, "Drive is not mounted", drive_dir)
    return os.path.join(drive_dir, OURS)


def same_named(folder: str, stem: str, suffix: str) -> List[str]:
    """The files in `folder` that `put` may have made under that name."""
    pattern = re.compile(re.escape(stem) + r"(-[0-9]+)?" + re.escape(suffix))
    return [os.path.join(folder, name) for name in list_names(folder) if pattern.fullmatch(name)]


def list_names(folder: str) -> List[str]:
    """What lies in the folder, sorted; nothing when there is no such folder."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def put(source: BinaryIO, folder: str, stem: str, suffix: str) -> Stored:
    """Copy the rest of `source` to the first name that is free: `<stem><suffix>`, `<stem>-2<suffix>`, …

    What cannot be written whole is taken away again; OSError says why.
    """
    os.makedirs(folder, exist_ok=True)
    path, handle = _create(folder, stem, suffix)
    size = 0
    try:
        with open(handle, "wb", buffering=0) as file:
            for piece in pieces(source):
                size += len(piece)
                _write_all(file, piece)
            os.fsync(file.fileno())
        if os.stat(path).st_size != size:
            raise OSError(errno.EIO, "Drive did not keep all of it", path)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(path)
        raise
    return Stored(path, size, level_of(path))


def level_of(path: str) -> str:
    """How far Drive says that the file got. A mount that says nothing has accepted it, no more."""
    return ACCEPTED


def remove(path: str) -> None:
    """Delete the file. Emptied first: what is deleted on the mount keeps its size, in the trash."""
    with contextlib.suppress(OSError):
        os.truncate(path, 0)
    os.unlink(path)


def pieces(file: BinaryIO, size: int = PIECE_BYTES) -> Iterator[bytes]:
    """The rest of the file."""
    while True:
        piece = file.read(size)
        if not piece:
            return
        yield piece


def explain(exc: OSError) -> str:
    """Why Drive fails, in words."""
    reasons = {
        errno.ENOSPC: "Drive, or the runtime's disk, is full",
        errno.EDQUOT: "Drive is full",
        errno.EROFS: "Drive is mounted read-only",
        errno.ENODEV: "Drive is not mounted",
        errno.ENOTCONN: "Drive's own program on the runtime has ended; it must be mounted again",
    }
    return reasons.get(exc.errno or 0, "Drive fails: {}".format(exc))


def check_part(name: object) -> str:
    """`name`, when it is one part of a path and nothing else; ValueError otherwise."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("{!r} is no name of a file".format(name))
    return name


def _create(folder: str, stem: str, suffix: str) -> "tuple[str, int]":
    for number in range(1, _MAX_NAMES):
        name = stem + ("" if number == 1 else "-{}".format(number)) + suffix
        path = os.path.join(folder, name)
        with contextlib.suppress(FileExistsError):
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    raise OSError(errno.EEXIST, "it was begun too often", os.path.join(folder, stem + suffix))


def _write_all(file: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
