"""Stores that are a directory of the runtime: mounted Drive, and an ordinary disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from typing import BinaryIO, Iterator, List, Optional

from . import drive, manifest
from .manifest import MANIFEST, FileEntry
from .stores import (
    ARRIVED,
    ARRIVING,
    PROVED,
    REFUTED,
    SILENT,
    Proof,
    Receipt,
    SourceChanged,
    Store,
    StoreError,
    Told,
)

_MARK = "user.drive."
_UNCOMMITTED, _ID, _MD5 = "uncommitted", "id", "md5"
_LOCAL_ID = "local-"
_MOUNTS = "/proc/self/mountinfo"
_LAG_S = 20.0
_NO_MARKS = (errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class FolderStore(Store):
    """Files below `<drive_dir>/colabdev`, each created once and never written again."""

    def __init__(self, drive_dir: str) -> None:
        self._drive_dir = drive_dir

    def put(self, path: str, source: str, entry: FileEntry, told: Told) -> Receipt:
        target = self._at(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as exc:
            if _holds(target, entry, told):
                return {"path": path}  # An earlier call came as far as this, and died.
            raise StoreError("{} was begun before and is torn".format(path)) from exc
        with open(handle, "wb", buffering=0) as writing:
            _copy(source, writing, entry, told)
            os.fsync(handle)
        if os.stat(target).st_size != entry.size:
            raise StoreError("it did not keep all of {}".format(path))
        return {"path": path}

    def names(self, folder: str) -> List[str]:
        return drive.list_names(self._at(folder))

    def fetch(self, path: str, sha256: str = "") -> Iterator[bytes]:
        with open(self._at(path), "rb", buffering=0) as file:
            yield from drive.pieces(file)

    def remove(self, path: str) -> None:
        top = self._at(path)
        if os.path.isfile(top):
            drive.remove(top)
            return
        with contextlib.suppress(FileNotFoundError):
            drive.remove(os.path.join(top, MANIFEST))
        for parent, folders, names in os.walk(top, topdown=False):
            for name in names:
                drive.remove(os.path.join(parent, name))
            for name in folders:
                os.rmdir(os.path.join(parent, name))
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(top)

    def lag_s(self) -> float:
        # On a disk a file of one name is made once, and seen by all.
        return _LAG_S if mounted_as(self._drive_dir).startswith("fuse") else 0.0

    def free_bytes(self) -> Optional[int]:
        seen = os.statvfs(self._drive_dir)
        return seen.f_bavail * seen.f_frsize

    def _at(self, path: str) -> str:
        """Where that is; StoreError when the disk or Drive is not there, so that nobody writes in its
        place."""
        try:
            return os.path.join(drive.root_of(self._drive_dir), *path.split("/"))
        except OSError as exc:
            raise StoreError("there is no {}: it is not mounted".format(self._drive_dir)) from exc


class DriveFs(FolderStore):
    """Drive as Google's own program mounts it, which tells of each file how far it is by attributes.

    Reading a file back proves nothing: that comes from the runtime's own disk.
    """

    name = manifest.DRIVEFS
    best = manifest.BEST[manifest.DRIVEFS]
    is_cached = True

    def look(self, receipt: Receipt, entry: FileEntry) -> Proof:
        path = self._at(receipt["path"])
        try:
            if os.stat(path).st_size != entry.size:
                return Proof(REFUTED, "it has another size on Drive")
            uncommitted, file_id, md5 = (_mark(path, one) for one in (_UNCOMMITTED, _ID, _MD5))
        except FileNotFoundError:
            return Proof(REFUTED, "it is not on Drive any more")
        if uncommitted is None or file_id is None:
            return Proof(SILENT, "Drive does not tell how far it is")
        if uncommitted != "0" or file_id.startswith(_LOCAL_ID) or not file_id:
            return Proof(ARRIVING)
        if md5 is None:
            return Proof(SILENT, "Drive does not tell the hash")
        receipt["id"] = file_id
        return Proof(ARRIVED) if md5 == entry.md5 else Proof(REFUTED, "Drive has another content")


class Disk(FolderStore):
    """A disk that outlives the runtime, as the local provider's and an own host's do. The proof is what
    another reader finds on it."""

    name = manifest.DISK
    best = manifest.BEST[manifest.DISK]

    def look(self, receipt: Receipt, entry: FileEntry) -> Proof:
        path = self._at(receipt["path"])
        kind = mounted_as(path)
        if kind.startswith("fuse"):
            # Such a file may not be where it seems to be; only what carries it knows.
            return Proof(SILENT, "it is on a mount of {}, which proves nothing".format(kind))
        try:
            with open(path, "rb", buffering=0) as file:
                os.fsync(file.fileno())
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if _holds(path, entry, lambda done: None):
                return Proof(PROVED)
        except FileNotFoundError:
            return Proof(REFUTED, "it is not there any more")
        return Proof(REFUTED, "it has another content there")


def mounted_as(path: str) -> str:
    """The type of the file system that holds `path`; "" where nothing tells."""
    return mounted_below(os.path.realpath(path))


def mounted_below(path: str) -> str:
    """The same of an absolute path, by its text alone: nobody is asked who may not answer."""
    best, kind = "", ""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split(" - ", 1) for line in file]
    except OSError:
        return ""
    for before, after in rows:
        place = before.split(" ")[4].encode("ascii", "surrogateescape").decode("unicode_escape")
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, kind = place, after.split(" ")[0]
    return kind


def _copy(source: str, writing: BinaryIO, entry: FileEntry, told: Told) -> None:
    """The whole of `source`; StoreError at its end when that is not what it should be."""
    digest, size = hashlib.sha256(), 0
    with open(source, "rb", buffering=0) as reading:
        for piece in drive.pieces(reading):
            rest = memoryview(piece)
            while rest:
                rest = rest[writing.write(rest) :]
            digest.update(piece)
            size += len(piece)
            told(size)
    if (size, digest.hexdigest()) != (entry.size, entry.sha256):
        raise SourceChanged("{} changed on the runtime's disk".format(entry.path))


def _holds(path: str, entry: FileEntry, told: Told) -> bool:
    found = manifest.digests(path, told)
    return (found.size, found.sha256) == (entry.size, entry.sha256)


def _mark(path: str, name: str) -> Optional[str]:
    """What that attribute says; None where there is none of that name, or none at all."""
    if not hasattr(os, "getxattr"):
        return None
    try:
        return os.getxattr(path, _MARK + name).decode("ascii", "replace")
    except OSError as exc:
        if exc.errno in _NO_MARKS:
            return None
        raise
