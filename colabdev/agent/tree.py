"""A tree of files as both ends of a sync see it: entries, their hash, and hashes that can be reused.

Paths are relative to the root of the tree, '/'-separated and `os.fsdecode`d. A tree consists of regular
files and symbolic links; folders exist as far as something lies in them.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import posixpath
import re
import stat
import time
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
)

from .piles import find_piles
from .stamps import Index, outside_of, stamp_of

OURS = ".colabdev"
"""The folder at the top of a work dir that holds our own files. It is never part of a tree."""

FILE = "file"
LINK = "link"

_READ_BYTES = 256 * 1024
_TRIES = 3
_HASHED_AT_ONCE = 1000
_CLOCK_TICK_NS = 50 * 1000 * 1000
_COARSE_TICK_NS = 2 * 1000 * 1000 * 1000
_WHOLE_SECOND_NS = 1000 * 1000 * 1000
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # A FIFO that took the file's place must not make us wait.
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

_MAY_BE_ODD = re.compile(r"^(?:[./]|$)|/(?:[./]|$)|\0").search
"""Few have a part that begins with a dot, or an empty one."""

Problem = Tuple[str, str]
"""A path and why it cannot be synced, in words that go after the path."""


class HostileName(ValueError):
    """A name from the other side that would lead out of the tree, or into what is not synced."""


class Entry(NamedTuple):
    """One file or link of a tree."""

    path: str
    kind: str
    executable: bool
    size: int
    mtime_ns: int
    digest: str
    """sha256 of the content, for a link of its target, in hex."""
    target: str = ""

    @property
    def fingerprint(self) -> str:
        """What makes two entries at one path the same: all but the time."""
        return _fingerprint(self.kind, self.executable, self.digest)


def _fingerprint(kind: str, executable: bool, digest: str) -> str:
    return kind[0] + ("x" if executable else "-") + digest


class Limits(NamedTuple):
    """What is too large to be taken along by accident."""

    file_bytes: Optional[int] = None
    pile_bytes: Optional[int] = None
    """Of the checkpoints in one folder together; see `piles`."""


NO_LIMITS = Limits()


class Scan(NamedTuple):
    """What was found at the paths that a scan was asked for; what does not exist is in none of it."""

    entries: List[Entry]
    problems: List[Problem]
    stamps: Index
    """Those of the files whose hash can be reused."""
    folders: List[str]
    """The paths that are folders; a git repository inside another one is listed as its folder."""
    hashed: int
    """How many files had to be read."""
    unchanged: List[str]
    """The files that are as they are known to be; they have no entry."""


# --- hashes -------------------------------------------------------------------------------------


def hash_entries(entries: Iterable[Entry]) -> str:
    """The hash of a tree of entries, in any order: of their paths and fingerprints."""
    return _hash_pairs((entry.path, entry.fingerprint) for entry in sorted(entries))


def hash_fingerprints(fingerprints: Mapping[str, str]) -> str:
    """The hash of the tree that has these fingerprints at these paths."""
    return _hash_pairs((path, fingerprints[path]) for path in sorted(fingerprints))


def _hash_pairs(pairs: Iterator[Tuple[str, str]]) -> str:
    digest = hashlib.sha256()
    # Piece by piece, so that a large tree is never in memory as text.
    while True:
        piece = list(itertools.islice(pairs, _HASHED_AT_ONCE))
        if not piece:
            return digest.hexdigest()
        text = "".join(["{}\0{}\n".format(*pair) for pair in piece])
        # surrogatepass carries every name that os.fsdecode can give, the same on each system.
        digest.update(text.encode("utf-8", "surrogatepass"))


def digest_of_target(target: str) -> str:
    """The digest of a link."""
    return hashlib.sha256(os.fsencode(target)).hexdigest()


# --- names from the other side ------------------------------------------------------------------


def check_name(path: str) -> str:
    """`path`, when it names something that may lie in a tree; HostileName otherwise."""
    if not _MAY_BE_ODD(path):
        return path
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise HostileName("{!r} is no path inside the project".format(path))
    if parts[0] == OURS or any(part.lower() == ".git" for part in parts):
        raise HostileName("{!r} is never synced".format(path))
    return path


def check_target(path: str, target: str) -> str:
    """`target`, when a link at `path` that points there stays in the tree; HostileName otherwise."""
    inside = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if not target or "\0" in target or target.startswith("/") or inside.split("/")[0] == "..":
        raise HostileName("points out of the project, to {!r}".format(target))
    return target


# --- rows ---------------------------------------------------------------------------------------


def entry_to_row(entry: Entry) -> List[Any]:
    """The entry as JSON has it."""
    return list(entry)


def entry_from_row(row: Any) -> Entry:
    """The entry that `entry_to_row` gave; checked, for it may come from the other side."""
    path, kind, executable, size, mtime_ns, digest, target = row
    texts = (path, kind, digest, target)
    if not all(isinstance(text, str) for text in texts) or not isinstance(size, int):
        raise ValueError("not an entry: {!r}".format(row))
    if kind not in (FILE, LINK) or size < 0 or not isinstance(mtime_ns, int):
        raise ValueError("not an entry: {!r}".format(row))
    check_name(path)
    if kind == LINK:
        check_target(path, target)
    return Entry(path, kind, bool(executable), size, mtime_ns, digest, target)


# --- scanning -----------------------------------------------------------------------------------


def scan(
    root: str,
    paths: Iterable[str],
    index: Index,
    limits: Limits = NO_LIMITS,
    known: Optional[Mapping[str, str]] = None,
) -> Scan:
    """Look at `paths` below `root` and hash what changed since `index` was made.

    Files beyond the limits are problems, and not read; those that have the fingerprint that is
    `known` of them are only named. Nothing is followed: what lies behind a link, even a linked folder,
    does not exist.
    """
    found = Scan([], [], Index(), [], 0, [])
    scanner = _Scanner(root, index, found)
    paths, known = list(paths), known or {}
    piles = {} if limits.pile_bytes is None else scanner.find_piles(paths, limits.pile_bytes)
    found.problems.extend(piles.items())
    for path in paths:
        if path in piles:
            continue
        try:
            scanner.look(check_name(path), limits.file_bytes, known)
        except HostileName as exc:
            found.problems.append((path, str(exc)))
        except FileNotFoundError:
            continue  # It went while we looked.
        except OSError as exc:
            found.problems.append((path, "cannot be read: {}".format(exc.strerror or exc)))
    return found._replace(hashed=scanner.hashed)


class _Scanner:
    """One scan as it goes on."""

    def __init__(self, root: str, index: Index, found: Scan) -> None:
        self.hashed = 0
        self._root = root
        self._index = index
        self._found = found
        self._folders = Folders(root)
        self._began_ns = time.time_ns()

    def find_piles(self, paths: Iterable[str], max_bytes: int) -> Dict[str, str]:
        """The checkpoints that are left out, and why."""
        return find_piles(paths, self._size, max_bytes)

    def _size(self, path: str) -> int:
        try:
            status = self._folders.lstat(path)
        except OSError:
            return 0  # `look` says why.
        return status.st_size if status is not None and stat.S_ISREG(status.st_mode) else 0

    def look(self, path: str, max_bytes: Optional[int], known: Mapping[str, str]) -> None:
        """Add what is at `path` to what was found."""
        status = self._folders.lstat(path)
        if status is None:
            return
        mode = status.st_mode
        # Nearly all are files that are as they were, and a tree may have tens of thousands.
        if stat.S_ISREG(mode) and (max_bytes is None or status.st_size <= max_bytes):
            self._take_file(path, status, known.get(path))
        elif stat.S_ISDIR(mode):
            self._found.folders.append(path)
        elif stat.S_ISLNK(mode):
            self._found.entries.append(_link_entry(self._root, path, status))
        else:
            self._found.problems.append((path, _unfit(status)))

    def _take_file(self, path: str, status: os.stat_result, known: Optional[str]) -> None:
        digest = self._index.digest(path, status)
        if digest:
            self._found.stamps.take(path, self._index)
        else:
            digest, status = hash_file(self._folders.locate(path))
            self.hashed += 1
            if is_settled(status, self._began_ns):
                self._found.stamps[path] = stamp_of(status, digest)
        if known is not None and known == _fingerprint(FILE, _is_executable(status), digest):
            self._found.unchanged.append(path)
        else:
            self._found.entries.append(file_entry(path, status, digest))


class Folders:
    """The folders below a root, each looked at once: a path behind a link is not in the tree."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._real = {"": True}

    def locate(self, path: str) -> str:
        """Where `path` lies on the disk."""
        return self.root + "/" + path

    def lstat(self, path: str) -> Optional[os.stat_result]:
        """What lies at `path`; None when nothing does. Other failures raise OSError."""
        if not self.is_real(path.rpartition("/")[0]):
            return None
        try:
            return os.lstat(self.root + "/" + path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def is_real(self, folder: str) -> bool:
        """Whether `folder` and all above it are folders, and no links."""
        known = self._real.get(folder)
        if known is None:
            known = self._real[folder] = self._look(folder)
        return known

    def forget(self) -> None:
        """Look again from now on: folders came or went."""
        self._real = {"": True}

    def _look(self, folder: str) -> bool:
        if not self.is_real(folder.rpartition("/")[0]):
            return False
        try:
            return stat.S_ISDIR(os.lstat(self.root + "/" + folder).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False


def hash_file(location: str) -> Tuple[str, os.stat_result]:
    """The sha256 of a regular file, and its status as of then; OSError when it keeps changing."""
    handle = os.open(location, _OPEN_FLAGS)
    try:
        for _ in range(_TRIES):
            before = os.fstat(handle)
            if not stat.S_ISREG(before.st_mode):
                raise OSError(errno.EINVAL, "it is no file any more")
            digest = _read_digest(handle)
            after = os.fstat(handle)
            if outside_of(before) == outside_of(after):
                return digest, after
            os.lseek(handle, 0, os.SEEK_SET)
    finally:
        os.close(handle)
    raise OSError(errno.EAGAIN, "it keeps changing")


def read_pieces(location: str, pieces: Iterable[Tuple[int, int]]) -> Iterator[bytes]:
    """The content of a regular file at these (offset, length), or what there is of it."""
    handle = os.open(location, _OPEN_FLAGS)
    try:
        for offset, length in pieces:
            os.lseek(handle, offset, os.SEEK_SET)
            left = length
            while left:
                piece = os.read(handle, min(left, _READ_BYTES))
                if not piece:
                    return
                left -= len(piece)
                yield piece
    finally:
        os.close(handle)


def is_settled(status: os.stat_result, began_ns: int) -> bool:
    """Whether a later edit would show in the file's times: they are older than the scan."""
    return is_older(status.st_mtime_ns, status.st_ctime_ns, began_ns)


def is_older(mtime_ns: int, ctime_ns: int, began_ns: int) -> bool:
    """Whether these times are surely from before: the clocks of file systems tick, and those that only
    know whole seconds tick every two."""
    newest = max(mtime_ns, ctime_ns)
    tick_ns = _COARSE_TICK_NS if newest % _WHOLE_SECOND_NS == 0 else _CLOCK_TICK_NS
    return newest + tick_ns < began_ns


def file_entry(path: str, status: os.stat_result, digest: str) -> Entry:
    """The entry of a regular file."""
    executable = _is_executable(status)
    return Entry(path, FILE, executable, status.st_size, status.st_mtime_ns, digest)


def _is_executable(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IXUSR)


def _link_entry(root: str, path: str, status: os.stat_result) -> Entry:
    target = check_target(path, os.readlink(root + "/" + path))
    digest = digest_of_target(target)
    return Entry(path, LINK, False, status.st_size, status.st_mtime_ns, digest, target)


def _unfit(status: os.stat_result) -> str:
    """Why what is no folder and no link is not taken along."""
    if not stat.S_ISREG(status.st_mode):
        return "is a socket, a FIFO or a device"
    megabytes = -(-status.st_size // 1000000)
    return "is large; colabdev sync --max-size {}M takes it along".format(megabytes)


def _read_digest(handle: int) -> str:
    digest = hashlib.sha256()
    while True:
        piece = os.read(handle, _READ_BYTES)
        if not piece:
            return digest.hexdigest()
        digest.update(piece)
