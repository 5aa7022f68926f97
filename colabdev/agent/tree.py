"""A tree of files as both ends of a sync see it: entries, their hash, and hashes that can be reused.

Paths are relative to the root of the tree, '/'-separated and `os.fsdecode`d. A tree consists of regular
files and symbolic links; folders exist as far as something lies in them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import posixpath
import stat
import struct
import time
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    MutableMapping,
    NamedTuple,
    Optional,
    Tuple,
)

from .piles import find_piles

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

_INODE_MASK = (1 << 64) - 1
"""Some file systems of Windows have longer ones."""

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
        return self.kind[0] + ("x" if self.executable else "-") + self.digest


class Stamp(NamedTuple):
    """What a file looked like from outside when its content had this digest.

    Only kept when the file's times were older than the scan that hashed it: a later edit cannot
    leave them as they are.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: str


class Index(MutableMapping[str, Stamp]):
    """Stamps by path, in a quarter of the memory that they would take one by one."""

    _PACKED = struct.Struct(">QqqQ32s")

    def __init__(self) -> None:
        self._packed: Dict[str, bytes] = {}

    def __getitem__(self, path: str) -> Stamp:
        size, mtime_ns, ctime_ns, inode, digest = self._PACKED.unpack(self._packed[path])
        return Stamp(size, mtime_ns, ctime_ns, inode, digest.hex())

    def __setitem__(self, path: str, stamp: Stamp) -> None:
        self._packed.pop(path, None)
        # A time that no clock shows is not kept: such a file is read every time.
        with contextlib.suppress(struct.error):
            self._packed[path] = self._PACKED.pack(*stamp[:4], bytes.fromhex(stamp.digest))

    def __delitem__(self, path: str) -> None:
        del self._packed[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, path: object) -> bool:
        return path in self._packed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and self._packed == other._packed

    __hash__ = None  # type: ignore[assignment]

    def take(self, path: str, other: Index) -> None:
        """Have the same stamp as another index."""
        self._packed[path] = other._packed[path]

    def take_all(self, other: Index) -> None:
        """Have all that another index has, too."""
        self._packed.update(other._packed)


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


def index_to_json(index: Index) -> str:
    """The index as a file keeps it."""
    files = {path: list(stamp) for path, stamp in index.items()}
    return json.dumps({"schema": 1, "files": files}, separators=(",", ":"))


def index_from_json(text: str) -> Index:
    """The index in `text`. It is only a cache: one that makes no sense is an empty one."""
    index = Index()
    try:
        document = json.loads(text)
        if document["schema"] == 1:
            for path, row in document["files"].items():
                index[path] = Stamp(*row)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, struct.error):
        return Index()
    return index


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
    paths = list(paths)
    piles = {} if limits.pile_bytes is None else scanner.find_piles(paths, limits.pile_bytes)
    found.problems.extend(piles.items())
    for path in paths:
        if path in piles:
            continue
        try:
            scanner.look(check_name(path), limits.file_bytes, known or {})
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
        if stat.S_ISDIR(status.st_mode):
            self._found.folders.append(path)
            return
        if stat.S_ISLNK(status.st_mode):
            self._found.entries.append(_link_entry(self._root, path, status))
            return
        reason = _unfit(status, max_bytes)
        if reason:
            self._found.problems.append((path, reason))
            return
        entry = self._file(path, status)
        if path in known and known[path] == entry.fingerprint:
            self._found.unchanged.append(path)
        else:
            self._found.entries.append(entry)

    def _file(self, path: str, status: os.stat_result) -> Entry:
        stamp = self._index.get(path)
        if stamp is not None and is_unchanged(status, stamp):
            self._found.stamps.take(path, self._index)
            return file_entry(path, status, stamp)
        digest, status = hash_file(self._folders.locate(path))
        self.hashed += 1
        stamp = stamp_of(status, digest)
        if is_settled(status, self._began_ns):
            self._found.stamps[path] = stamp
        return file_entry(path, status, stamp)


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
            if _outside(before) == _outside(after):
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


def is_unchanged(status: os.stat_result, stamp: Stamp) -> bool:
    """Whether the file still has the content of which `stamp` was taken."""
    return _outside(status) == stamp[:4]


def is_settled(status: os.stat_result, began_ns: int) -> bool:
    """Whether a later edit would show in the file's times: they are older than the scan."""
    return is_older(status.st_mtime_ns, status.st_ctime_ns, began_ns)


def is_older(mtime_ns: int, ctime_ns: int, began_ns: int) -> bool:
    """Whether these times are surely from before: the clocks of file systems tick, and those that only
    know whole seconds tick every two."""
    newest = max(mtime_ns, ctime_ns)
    tick_ns = _COARSE_TICK_NS if newest % _WHOLE_SECOND_NS == 0 else _CLOCK_TICK_NS
    return newest + tick_ns < began_ns


def stamp_of(status: os.stat_result, digest: str) -> Stamp:
    """The stamp of a file that has this status and this content."""
    return Stamp(*_outside(status), digest)


def file_entry(path: str, status: os.stat_result, stamp: Stamp) -> Entry:
    """The entry of a regular file."""
    executable = bool(status.st_mode & stat.S_IXUSR)
    return Entry(path, FILE, executable, stamp.size, stamp.mtime_ns, stamp.digest)


def _link_entry(root: str, path: str, status: os.stat_result) -> Entry:
    target = check_target(path, os.readlink(root + "/" + path))
    digest = digest_of_target(target)
    return Entry(path, LINK, False, status.st_size, status.st_mtime_ns, digest, target)


def _unfit(status: os.stat_result, max_bytes: Optional[int]) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "is a socket, a FIFO or a device"
    if max_bytes is not None and status.st_size > max_bytes:
        megabytes = -(-status.st_size // 1000000)
        return "is large; colabdev sync --max-size {}M takes it along".format(megabytes)
    return ""


def _outside(status: os.stat_result) -> Tuple[int, int, int, int]:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & _INODE_MASK)


def _read_digest(handle: int) -> str:
    digest = hashlib.sha256()
    while True:
        piece = os.read(handle, _READ_BYTES)
        if not piece:
            return digest.hexdigest()
        digest.update(piece)
