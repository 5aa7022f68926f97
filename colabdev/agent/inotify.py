"""Being told by Linux what changes in the folders of a project."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import sys
import time
from typing import Dict, Sequence, Set

from .rules import Folder
from .worth_watching import ANYTHING, Unwatchable, Walk, Watching

_WRITTEN = 0x8 | 0x4
"""Closed after writing; attributes."""
_CAME = 0x80 | 0x100
"""Moved here, or created."""
_MOVED_FROM = 0x40
_GONE = _MOVED_FROM | 0x200
_SELF_GONE = 0x400 | 0x800
_OVERFLOW = 0x4000
_FORGOTTEN = 0x8000
_IS_FOLDER = 0x40000000
_ONLY_FOLDERS = 0x1000000
_NO_LINKS = 0x2000000
_MASK = _WRITTEN | _CAME | _GONE | _SELF_GONE | _ONLY_FOLDERS
_EVENT = struct.Struct("iIII")

_FOREIGN_DISKS = ("9p", "drvfs", "nfs", "cifs", "smb", "vboxsf", "prl_fs", "fuse.", "afs", "lustre")
"""File systems that others write to as well, whom inotify does not see."""


class Inotify(Watching):
    """The kernel tells of each folder; it costs nothing while nothing happens."""

    how = "inotify"

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._folders: Dict[int, Folder] = {}
        self._descriptors: Dict[str, int] = {}
        reason = _foreign_disk(walk.root)
        if reason:
            raise Unwatchable(reason)
        self._libc = _libc()
        self._inotify = int(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._inotify < 0:
            raise Unwatchable(_limit("instances"))
        try:
            self._enter(walk.top())
        except BaseException:
            self.close()
            raise

    def wait(self, timeout_s: float, wakes: Sequence[int] = ()) -> Set[str]:
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(deadline - time.monotonic(), 0.0)
            ready, _, _ = select.select([self._inotify, *wakes], [], [], left_s)
            changed = self._take() if self._inotify in ready else set()
            if changed or not left_s or set(ready) & set(wakes):
                return changed

    def close(self) -> None:
        if self._inotify >= 0:
            os.close(self._inotify)
            self._inotify = -1

    def _take(self) -> Set[str]:
        try:
            data = os.read(self._inotify, 256 * 1024)
        except BlockingIOError:
            return set()
        changed: Set[str] = set()
        offset = 0
        while offset < len(data):
            descriptor, mask, _, length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size + length
            name = os.fsdecode(data[offset - length : offset].rstrip(b"\0"))
            self._note(descriptor, mask, name, changed)
        return changed

    def _note(self, descriptor: int, mask: int, name: str, changed: Set[str]) -> None:
        if mask & _OVERFLOW:
            # Too much happened for the kernel to tell: new folders, too.
            self._enter(self._walk.top())
            changed.add(ANYTHING)
            return
        folder = self._folders.get(descriptor)
        if folder is None:
            return
        if mask & _FORGOTTEN:
            self._forget(descriptor)
        elif mask & _SELF_GONE:
            if not folder.path:
                changed.add(ANYTHING)
        elif mask & _IS_FOLDER:
            self._note_folder(folder, mask, name, changed)
        elif self._walk.matters(folder, name):
            changed.add(folder.path + name)

    def _note_folder(self, folder: Folder, mask: int, name: str, changed: Set[str]) -> None:
        path = folder.path + name + "/"
        if mask & _GONE:
            if mask & _MOVED_FROM and path in self._descriptors:
                # One that was deleted told of each of its files before.
                changed.add(path)
                self._leave(path)
        elif mask & _CAME:
            below = self._walk.enter(folder, name)
            if below is not None:
                # Files may have come before it was watched.
                changed |= self._enter(below)

    def _enter(self, folder: Folder) -> Set[str]:
        """Watch a folder and all below it; returns the files that are there."""
        found: Set[str] = set()
        pending = [folder]
        while pending:
            folder = pending.pop()
            # Watched before it is listed: whatever comes from now on is told.
            if not self._add(folder):
                continue
            entries = self._walk.list(folder)
            if entries is None:
                self._leave(folder.path)
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below = self._walk.enter(folder, entry.name)
                    if below is not None:
                        pending.append(below)
                elif self._walk.matters(folder, entry.name):
                    found.add(folder.path + entry.name)
        return found

    def _add(self, folder: Folder) -> bool:
        place = os.fsencode(self._walk.root + "/" + folder.path)
        mask = _MASK if not folder.path else _MASK | _NO_LINKS
        descriptor = self._libc.inotify_add_watch(self._inotify, place, ctypes.c_uint32(mask))
        if descriptor >= 0:
            self._folders[descriptor] = folder
            self._descriptors[folder.path] = descriptor
            return True
        if ctypes.get_errno() in (errno.ENOSPC, errno.ENOMEM):
            raise Unwatchable(_limit("watches"))
        return False  # It went, or may not be read.

    def _leave(self, path: str) -> None:
        for below in [known for known in self._descriptors if known.startswith(path)]:
            descriptor = self._descriptors[below]
            self._libc.inotify_rm_watch(self._inotify, descriptor)
            self._forget(descriptor)

    def _forget(self, descriptor: int) -> None:
        folder = self._folders.pop(descriptor, None)
        if folder is not None and self._descriptors.get(folder.path) == descriptor:
            del self._descriptors[folder.path]


def _libc() -> ctypes.CDLL:
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        if hasattr(libc, "inotify_init1"):
            return libc
    raise Unwatchable("this system has no inotify")


def _limit(what: str) -> str:
    """The sentence for a limit of the system's that was reached."""
    return (
        "the system's limit of inotify {0} is reached; "
        "sudo sysctl fs.inotify.max_user_{0}=524288 raises it".format(what)
    )


def _foreign_disk(root: str) -> str:
    """Why inotify would not see all changes below `root`; "" when it does."""
    place = os.path.realpath(root)
    kind = ""
    depth = -1
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                point = before.split()[4].replace("\\040", " ")
                if (place + "/").startswith(point.rstrip("/") + "/") and len(point) >= depth:
                    kind, depth = after.split()[0], len(point)
    except (OSError, IndexError):
        return ""
    if kind.startswith(_FOREIGN_DISKS):
        return "{} is on a {} disk, where others may write unseen".format(root, kind)
    return ""
