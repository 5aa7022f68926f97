"""Putting changes into a tree of files, by the same laws on both ends.

A file appears under its name by a rename only, whole and proved by its digest, and only in the place of
what was expected there. Nothing is ever reached through a link. So whoever is killed at any moment
leaves every file old or new.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
from typing import (
    Any,
    BinaryIO,
    Callable,
    Container,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Union,
)

from . import changes, tree
from .changes import NEW, NOTHING, OTHER, Change
from .crash_points import crash_point
from .stamps import Index
from .tree import Entry

CONFLICT = "conflict"
PROBLEM = "problem"
AGAIN = "again"
"""The pieces of a patch did not make the file that was meant: it must be sent whole."""

KEPT_FROM_BYTES = 4 * 1024 * 1024
"""A file as large as this that did not arrive whole is kept, where staged files are kept at all."""
_READ_BYTES = 256 * 1024
_DIGEST = re.compile("[0-9a-f]{64}")
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

Bytes = Union[bytes, memoryview]


class Failure(NamedTuple):
    """A change that was not made, and why."""

    path: str
    kind: str
    detail: str


class Refused(Exception):
    """A change that turns out to be impossible while it is made: the kind of failure, and the reason."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


def attempt(steps: Iterable[Change], do: Callable[[Change], object]) -> List[Failure]:
    """Do what can be done; the rest are values. OSError when the disk is full or broken."""
    failures = []
    for change in steps:
        try:
            do(change)
        except Refused as exc:
            failures.append(Failure(change.path, exc.kind, exc.detail))
        except OSError as exc:
            if exc.errno in _FATAL:
                raise
            detail = "cannot be changed: {}".format(exc.strerror or exc)
            failures.append(Failure(change.path, PROBLEM, detail))
    return failures


class Placer:
    """Makes changes below `root`, by way of the folder `staging` in the same file system.

    `index` has the hashes of files that need not be read again. A large file that does not arrive whole
    stays in `staging`, under its digest, for the next time.
    """

    def __init__(self, root: str, staging: str, index: Index) -> None:
        self.root = root
        self.folders = tree.Folders(root)
        self._staging = staging
        self._index = index

    def current(self, path: str) -> str:
        """The fingerprint of what is at `path` now."""
        self.folders.forget()
        folder = path.rpartition("/")[0]
        status = self.folders.lstat(path)
        if status is None:
            return NOTHING if self._could_be_made(folder) else OTHER
        if stat.S_ISDIR(status.st_mode):
            return NOTHING if not os.listdir(self.root + "/" + path) else OTHER
        found = tree.scan(self.root, [path], self._index)
        self._index.take_all(found.stamps)
        return found.entries[0].fingerprint if found.entries else OTHER

    def check(self, change: Change) -> str:
        """What is there now, if the change may be made to it; Refused otherwise."""
        current = self.current(change.path)
        if change.op in (changes.FORGET, changes.KEEP) or current in (
            change.fingerprint,
            change.expected,
        ):
            return current
        if current == NOTHING and change.op in changes.PUTS and change.op != changes.PATCH:
            return current
        if current == OTHER:
            raise Refused(CONFLICT, "a folder, or no file")
        if current == NOTHING:
            raise Refused(CONFLICT, "deleted")
        raise Refused(CONFLICT, "created" if change.expected == NOTHING else "edited")

    def do(self, change: Change, content: Iterator[memoryview]) -> None:
        """Make a change that `check` found possible."""
        location = self.root + "/" + change.path
        if change.op == changes.DELETE:
            os.unlink(location)
            self._remove_empty_folders(change.path)
        elif change.entry is None:
            return
        elif change.op == changes.MAKE_LINK:
            staged = self._staging + "/link"
            os.symlink(tree.check_target(change.path, change.entry.target), staged)
            self._put(staged, change)
        elif change.op == changes.CHMOD:
            os.chmod(location, _mode(change.entry, os.lstat(location).st_mode))
        elif change.op in changes.PUTS:
            self._put(self._stage(change, change.entry, content), change)

    def settle_folder(self, change: Change) -> bool:
        """Make a folder, or remove an empty one; whether it is there afterwards. What stands in its way
        stays: that is told as what it is."""
        self.folders.forget()
        if change.op == changes.MKDIR:
            with contextlib.suppress(Refused):
                self._make_folders(change.path)
        elif self.folders.is_real(change.path):
            self._remove_empty_folders(change.path + "/")
        return self.folders.is_real(change.path)

    def _stage(self, change: Change, entry: Entry, content: Iterator[memoryview]) -> str:
        """The file in the staging folder, complete and proved to be what it should be."""
        if change.op == changes.SEND:
            staged = self._stage_sent(change, entry, content)
        else:
            source = self._patched if change.op == changes.PATCH else self._copied
            staged = self._staged_as(entry)
            with open(staged, "wb", buffering=0) as file:
                if _write_hashed(file, source(change, content)) != entry.digest:
                    raise Refused(AGAIN, "changed meanwhile; the next sync sends it")
        made = stat.S_IMODE(os.lstat(staged).st_mode)
        mode = self._mode_at(change.path, made, entry)
        if mode != made:
            os.chmod(staged, mode)
        os.utime(staged, ns=(entry.mtime_ns, entry.mtime_ns))
        return staged

    def _stage_sent(self, change: Change, entry: Entry, content: Iterator[memoryview]) -> str:
        staged = self._staged_as(entry)
        if not change.skip:
            with open(staged, "wb", buffering=0) as file:
                whole = _write_hashed(file, content)
        elif staged_parts(self._staging).get(entry.digest, 0) < change.skip:
            raise Refused(AGAIN, "what had come of it went; the next sync sends it")
        else:
            digest = hashlib.sha256()
            with open(staged, "r+b", buffering=0) as file:
                for piece in _pieces(file, change.skip):
                    digest.update(piece)
                file.truncate(change.skip)
                whole = _write_hashed(file, content, digest)
        if whole != entry.digest:
            os.unlink(staged)
            kind = AGAIN if change.skip else PROBLEM
            raise Refused(kind, "changed while it was sent; the next sync sends it")
        return staged

    def _staged_as(self, entry: Entry) -> str:
        name = entry.digest if entry.size >= KEPT_FROM_BYTES else "file"
        return self._staging + "/" + name

    def _patched(self, change: Change, content: Iterator[memoryview]) -> Iterator[Bytes]:
        """The new file: pieces of the old one, and new ones."""
        fresh = _Taking(content)
        with open(self.root + "/" + change.path, "rb", buffering=0) as old:
            for offset, length in change.recipe:
                if offset == NEW:
                    yield from fresh.take(length)
                else:
                    old.seek(offset)
                    yield from _pieces(old, length)

    def _copied(self, change: Change, content: Iterator[memoryview]) -> Iterator[Bytes]:
        status = self.folders.lstat(change.source)
        if status is None or not stat.S_ISREG(status.st_mode):
            raise Refused(AGAIN, "the file with its content went; the next sync sends it")
        with open(self.root + "/" + change.source, "rb", buffering=0) as file:
            yield from _pieces(file, status.st_size)

    def _mode_at(self, path: str, made: int, entry: Entry) -> int:
        """The mode of what is replaced, else the one it was `made` with, with the entry's executable
        bit."""
        replaced = self.folders.lstat(path)
        if replaced is not None and stat.S_ISREG(replaced.st_mode):
            return _mode(entry, replaced.st_mode)
        return _mode(entry, made)

    def _put(self, staged: str, change: Change) -> None:
        """Move what is staged to its place, if that is still as it was expected to be."""
        self.check(change)
        self._make_folders(change.path.rpartition("/")[0])
        location = self.root + "/" + change.path
        crash_point("agent.staged")
        try:
            os.replace(staged, location)
        except OSError:
            if not os.path.isdir(location):
                raise
            os.rmdir(location)  # Only an empty folder goes, and only one gets here.
            os.replace(staged, location)
        crash_point("agent.placed")

    def _make_folders(self, folder: str) -> None:
        if not folder or self.folders.is_real(folder):
            return
        self._make_folders(folder.rpartition("/")[0])
        try:
            os.mkdir(self.root + "/" + folder)
        except FileExistsError:
            raise Refused(CONFLICT, "{} is no folder there".format(folder)) from None
        self.folders.forget()

    def _remove_empty_folders(self, path: str) -> None:
        """Folders that a deletion emptied go with it."""
        folder = path.rpartition("/")[0]
        with contextlib.suppress(OSError):
            while folder:
                os.rmdir(self.root + "/" + folder)
                folder = folder.rpartition("/")[0]
        self.folders.forget()

    def _could_be_made(self, folder: str) -> bool:
        """Whether nothing but folders is in the way of a file in `folder`."""
        while folder and not self.folders.is_real(folder):
            if os.path.lexists(self.root + "/" + folder):
                return False
            folder = folder.rpartition("/")[0]
        return True


def staged_parts(staging: str) -> Dict[str, int]:
    """How much is there of each content of which a sync that was cut brought a part, by its digest."""
    parts = {}
    try:
        with os.scandir(staging) as entries:
            for entry in entries:
                if _DIGEST.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    parts[entry.name] = entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        pass  # Nothing was cut, or it went while we looked.
    return parts


def clear(staging: str, keep: Container[str] = ()) -> None:
    """Remove what a sync before this one staged, but for the parts with these digests."""
    parts = [digest for digest in staged_parts(staging) if digest in keep]
    if not parts:
        shutil.rmtree(staging, ignore_errors=True)
        return
    for name in set(os.listdir(staging)).difference(parts):
        with contextlib.suppress(OSError):
            os.unlink(staging + "/" + name)


class _Taking:
    """A stream of pieces, taken by length."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def take(self, length: int) -> Iterator[memoryview]:
        while length:
            if not self._rest:
                self._rest = next(self._pieces, memoryview(b""))
                if not self._rest:
                    return
            piece = self._rest[:length]
            self._rest = self._rest[len(piece) :]
            length -= len(piece)
            yield piece


def _pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    """The next `length` bytes of a file, or what there is of them."""
    while length:
        piece = file.read(min(length, _READ_BYTES))
        if not piece:
            return
        length -= len(piece)
        yield piece


def _write_hashed(file: BinaryIO, pieces: Iterable[Bytes], digest: Any = None) -> str:
    """Write all of it and say its sha256, which `digest` may have the beginning of."""
    digest = digest or hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[file.write(rest) :]
    return str(digest.hexdigest())


def _mode(entry: Entry, mode: int) -> int:
    """The mode with the entry's executable bit, for whoever may read it."""
    mode = stat.S_IMODE(mode)
    readable = (mode & 0o444) >> 2
    return mode | readable if entry.executable else mode & ~0o111
