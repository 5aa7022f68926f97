"""A project as one zip on Drive: what stands in it, and how it proves itself.

    <path>…                   the files and links of the tree, as any zip program unpacks them
    .colabdev/archive.json    `{"schema", "files": [[member, *row of tree.Entry], …], "left_out"}`
    the zip's comment         `{"schema", "project", "tree", "stored", "files", "size_bytes", "origin"}`

The comment stands at the end of the file, so that a list of archives reads only their ends. An archive
is whole when its contents have the digests of its entries, and its entries the hash of its tree. A
member has another name than its path only when the path is not UTF-8.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import time
import zipfile
import zlib
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

from . import tree
from .tree import FILE, LINK, Entry, Problem

SCHEMA = 1
MANIFEST = tree.OURS + "/archive.json"

_LEVEL = 1  # Code packs well at any; the job that runs beside us wants the processor.
_PIECE_BYTES = 256 * 1024
_ZIP64_FROM_BYTES = 1 << 30
_MAX_MANIFEST_BYTES = 512 * 1024 * 1024
_UNIX = 3

Moment = Tuple[int, int, int, int, int, int]
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_LATEST_YEAR = 2107
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Broken(Exception):
    """The file is no archive of ours, or not all of it; the text says how one sees that."""


class Summary(NamedTuple):
    """What an archive says of itself."""

    project: str
    tree: str
    """The hash of the entries; also its name."""
    stored: str
    """When it was made: RFC 3339, UTC."""
    files: int
    size_bytes: int
    """Of the contents, unpacked."""
    origin: str
    """The computer and folder that the project came from; tells two projects of one name apart."""


# --- writing ------------------------------------------------------------------------------------


def write(
    file: BinaryIO,
    root: str,
    paths: Iterable[str],
    left_out: Sequence[Problem],
    about: Dict[str, str],
) -> Summary:
    """Pack what lies at `paths` below `root` now; what went meanwhile is not in it.

    `about` has `project`, `stored` and `origin`. The hash is of what was read, whatever changed since
    somebody looked: so the archive is always one that verifies.
    """
    rows: List[List[Any]] = []
    entries: List[Entry] = []
    gone = list(left_out)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as packed:
        members: Dict[str, str] = {}
        for path in sorted(paths):
            member = _member_name(path, members)
            try:
                entry = _pack(packed, root, path, member)
            except FileNotFoundError:
                continue
            except tree.HostileName as exc:
                gone.append((path, str(exc)))
                continue
            members[member] = path
            entries.append(entry)
            rows.append([member, *tree.entry_to_row(entry)])
        manifest = {"schema": SCHEMA, "files": rows, "left_out": [list(row) for row in gone]}
        text = json.dumps(manifest, separators=(",", ":")).encode("ascii")
        packed.writestr(_member(MANIFEST, 0o644, _EARLIEST), text)
        summary = Summary(
            about["project"],
            tree.hash_entries(entries),
            about["stored"],
            len(entries),
            sum(entry.size for entry in entries),
            about["origin"],
        )
        packed.comment = json.dumps(dict(summary._asdict(), schema=SCHEMA)).encode("ascii")
    return summary


def _pack(packed: zipfile.ZipFile, root: str, path: str, member: str) -> Entry:
    location = root + "/" + path
    status = os.lstat(location)
    if stat.S_ISLNK(status.st_mode):
        return _pack_link(packed, path, member, os.readlink(location), status)
    with open(os.open(location, _OPEN_FLAGS), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(location)
        executable = bool(status.st_mode & stat.S_IXUSR)
        info = _member(member, stat.S_IFREG | (0o755 if executable else 0o644), _moment(status))
        digest, size = hashlib.sha256(), 0
        with packed.open(info, "w", force_zip64=status.st_size >= _ZIP64_FROM_BYTES) as out:
            # No further than the size it had: a log that grows would never end.
            while size < status.st_size:
                piece = file.read(min(_PIECE_BYTES, status.st_size - size))
                if not piece:
                    break
                digest.update(piece)
                out.write(piece)
                size += len(piece)
    return Entry(path, FILE, executable, size, status.st_mtime_ns, digest.hexdigest())


def _pack_link(
    packed: zipfile.ZipFile, path: str, member: str, target: str, status: os.stat_result
) -> Entry:
    content = os.fsencode(tree.check_target(path, target))
    packed.writestr(_member(member, stat.S_IFLNK | 0o777, _moment(status)), content)
    digest = tree.digest_of_target(target)
    return Entry(path, LINK, False, status.st_size, status.st_mtime_ns, digest, target)


def _member(name: str, mode: int, moment: Moment) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, moment)
    info.create_system = _UNIX
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = mode << 16
    return info


def _moment(status: os.stat_result) -> Moment:
    """The file's time as a zip can have it, in UTC: the same zip wherever it is made."""
    moment = time.gmtime(max(status.st_mtime, 0))[:6]
    return moment if _EARLIEST[0] <= moment[0] <= _LATEST_YEAR else _EARLIEST


def _member_name(path: str, taken: Dict[str, str]) -> str:
    """The path as UTF-8 can have it; bytes that are none become `%FF`."""
    name = os.fsencode(path).decode("utf-8", "surrogateescape")
    name = "".join(
        "%{:02X}".format(ord(letter) - 0xDC00) if "\udc80" <= letter <= "\udcff" else letter
        for letter in name
    )
    while name in taken:
        name += "~"
    return name


# --- reading ------------------------------------------------------------------------------------


def read_summary(file: BinaryIO) -> Summary:
    """What the archive says of itself, from its end alone; Broken when there is no such end."""
    try:
        with zipfile.ZipFile(file) as packed:
            return _summary(packed.comment)
    except _UNREADABLE as exc:
        raise Broken(_words(exc)) from exc


class Archive:
    """An archive whose entries have the hash that it claims; contents are proved as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._packed = zipfile.ZipFile(file)
            self.summary = _summary(self._packed.comment)
            info = self._packed.getinfo(MANIFEST)
            if info.file_size > _MAX_MANIFEST_BYTES:
                raise ValueError("its list of files is too long")
            manifest = json.loads(self._packed.read(info).decode("ascii"))
            self.left_out = [(str(path), str(reason)) for path, reason in manifest["left_out"]]
            self._members = {}
            self.entries = []
            for member, *row in manifest["files"]:
                entry = tree.entry_from_row(row)
                self.entries.append(entry)
                self._members[entry.path] = str(member)
        except _UNREADABLE as exc:
            raise Broken(_words(exc)) from exc
        if tree.hash_entries(self.entries) != self.summary.tree:
            raise Broken("its list of files is not of the tree that it names")

    def content(self, entry: Entry) -> Iterator[bytes]:
        """The content, in pieces; Broken at the end when it is not what the entry says."""
        digest, size = hashlib.sha256(), 0
        try:
            with self._packed.open(self._members[entry.path]) as member:
                while True:
                    piece = member.read(_PIECE_BYTES)
                    if not piece:
                        break
                    size += len(piece)
                    if entry.kind == FILE and size > entry.size:
                        break
                    digest.update(piece)
                    yield piece
        except _UNREADABLE as exc:
            raise Broken("{}: {}".format(entry.path, _words(exc))) from exc
        if digest.hexdigest() != entry.digest:
            raise Broken("{}: its content is not what it was".format(entry.path))

    def verify(self) -> None:
        """Read all of it; Broken when anything is not as it was."""
        for entry in self.entries:
            for _ in self.content(entry):
                pass

    def close(self) -> None:
        self._packed.close()


def _summary(comment: bytes) -> Summary:
    said = json.loads(comment.decode("ascii"))
    if said["schema"] != SCHEMA:
        raise ValueError("it is of another version's format")
    texts = [said[name] for name in ("project", "tree", "stored", "origin")]
    numbers = [said[name] for name in ("files", "size_bytes")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("its comment is not ours")
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("its comment is not ours")
    return Summary(texts[0], texts[1], texts[2], numbers[0], numbers[1], texts[3])


def _words(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
