"""Copying a data set from Drive to this machine's own disk: once, proved, and whole or not there.

`<to>` appears when all of it is there. Beside it stands `.<name>.colabdev/`:

    content.json       which data set it is
    shards/<number>    what that shard put there: `[path, size, mtime_ns]` a line; written when it proved
    tree/              the data set, while it is not whole
    lock               held by whoever pulls
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tarfile
import time
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Tuple

from . import datasets, drive, jobdir, shards, tree
from .refusal import Refusal
from .shards import Index, Shard

Answer = Tuple[Dict[str, Any], bytes]

_PIECE_BYTES = 1024 * 1024
_SAY_S = 1.0
_ROOM = 1.02
"""What a file system needs on top of the contents."""
_SPARE_BYTES = 64 * 1024


class _Place:
    """The names around one pulled data set."""

    def __init__(self, to: str) -> None:
        self.to = os.path.normpath(to)
        parent, name = os.path.split(self.to)
        if not name or not os.path.isabs(self.to):
            raise Refusal("cannot pull to {!r}".format(to), "say a folder with --to")
        self.parent = parent
        self.ours = os.path.join(parent, ".{}{}".format(name, tree.OURS))
        self.content = os.path.join(self.ours, "content.json")
        self.tree = os.path.join(self.ours, "tree")
        self.lock = os.path.join(self.ours, "lock")

    def rows(self, number: int) -> str:
        return os.path.join(self.ours, "shards", shards.stem_of(number))


def pull(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Bring a data set to `to`; what is there already is not copied again.

    Arguments: `drive_dir`, `name`, `content` (the beginning of an id, or null for the newest), `to`.
    Frames: `{"done", "size"}` in bytes of shards; then `{"end", "content", "files", "size_bytes",
    "copied_shards", "copied_bytes", "shards"}`.
    """
    root = datasets.data_root(arguments)
    index = _choose(root, str(arguments["name"]), arguments.get("content"))
    place = _Place(str(arguments["to"]))
    if arguments.get("is_default") and os.path.isdir(os.path.join(place.parent, tree.OURS)):
        raise Refusal(
            "cannot pull to {}: it lies in a project's work dir".format(place.to),
            "say where with --to",
        )
    os.makedirs(os.path.join(place.ours, "shards"), exist_ok=True)
    lock = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refusal("another pull to {} runs now".format(place.to)) from None
        _claim(place, index)
        folder = os.path.join(root, index.name, index.content)
        yield from _bring(place, index, folder)
    finally:
        os.close(lock)


def _choose(root: str, name: str, content: Optional[str]) -> Index:
    known = datasets.indexes(root, drive.check_part(name))
    chosen = [index for index in known if index.content.startswith(content or "")]
    if not chosen:
        what = "version {!r} of it".format(content) if known else "data set {!r}".format(name)
        raise Refusal("no {} is on Drive".format(what), "colabdev data ls")
    if content and len(chosen) > 1:
        raise Refusal("several versions begin with {!r}".format(content), "colabdev data ls")
    return chosen[0]


def _claim(place: _Place, index: Index) -> None:
    """Make the place this data set's; Refusal when something else is there."""
    told = jobdir.read_document(place.content)
    there = os.path.lexists(place.to)
    if told is not None and told.get("content") == index.content:
        return
    if there and (told is not None or not _is_empty_folder(place.to)):
        what = "another version of it" if told else "something else"
        raise Refusal(
            "cannot pull to {}: {} is there".format(place.to, what),
            "say another place with --to, or remove that one first",
        )
    # Never whole, or removed by its owner: nothing of it is anybody's.
    shutil.rmtree(place.tree, ignore_errors=True)
    shutil.rmtree(os.path.join(place.ours, "shards"))
    os.makedirs(os.path.join(place.ours, "shards"))
    jobdir.write_document(place.content, {"content": index.content, "name": index.name})


def _bring(place: _Place, index: Index, folder: str) -> Iterator[Answer]:
    root = place.tree if not os.path.isdir(place.to) or _is_empty_folder(place.to) else place.to
    missing = [shard for shard in index.shards if not _is_intact(place, shard, root)]
    if missing:
        _check_room(place, missing)
        if root == place.to:
            # Not whole any more, so not there: what is missing in it is put back first.
            os.rename(place.to, place.tree)
        os.makedirs(place.tree, exist_ok=True)
    size, done = sum(shard.size for shard in missing), 0
    paths = dict(zip([shard.number for shard in index.shards], index.paths))
    for shard in missing:
        for got in _take(place, shard, os.path.join(folder, paths[shard.number])):
            yield {"done": done + got, "size": size}, b""
        done += shard.size
    if not os.path.isdir(place.to) or missing:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(place.to)
        os.rename(place.tree, place.to)
    yield (
        {
            "end": True,
            "content": index.content,
            "files": index.files,
            "size_bytes": index.size_bytes,
            "shards": len(index.shards),
            "copied_shards": len(missing),
            "copied_bytes": size,
        },
        b"",
    )


def _take(place: _Place, shard: Shard, source: str) -> Iterator[int]:
    """Unpack a shard while it is proved; says how far it got. Refusal when it is damaged."""
    rows = place.rows(shard.number)
    with open(source, "rb") as file, open(rows + ".new", "w", encoding="ascii") as listing:
        proving = _Proving(file)
        said_at = time.monotonic()
        try:
            for row in _unpack(proving, place.tree):
                listing.write(json.dumps(row) + "\n")
                if time.monotonic() - said_at >= _SAY_S:
                    said_at = time.monotonic()
                    yield proving.size
        except (tarfile.TarError, tree.HostileName) as exc:
            raise _damaged(source, str(exc)) from exc
        proving.drain()
        if (proving.digest.hexdigest(), proving.size) != (shard.sha256, shard.size):
            raise _damaged(source, "it is not what was pushed")
    os.replace(rows + ".new", rows)


def _damaged(source: str, how: str) -> Refusal:
    return Refusal(
        "cannot use {} on Drive: {}".format("/".join(source.split("/")[-4:]), how),
        "colabdev data push DIR, with the same name, sends that shard again",
    )


def _unpack(source: "_Proving", root: str) -> Iterator[List[Any]]:
    made = ""
    with tarfile.open(
        fileobj=source,
        mode="r|",
        bufsize=_PIECE_BYTES,  # type: ignore[call-overload]
        encoding="utf-8",
        errors="surrogateescape",
    ) as packed:
        while True:
            member = packed.next()
            if member is None:
                return
            packed.members = []  # Or it remembers every file of a large data set.
            path = _checked(member)
            parent = os.path.dirname(root + "/" + path)
            if parent != made:
                os.makedirs(parent, exist_ok=True)
                made = parent
            location = root + "/" + path
            with contextlib.suppress(FileNotFoundError):
                os.unlink(location)
            if member.issym():
                os.symlink(member.linkname, location)
            else:
                content = packed.extractfile(member)
                assert content is not None, "a regular file"
                with open(location, "wb") as file:
                    shutil.copyfileobj(content, file, _PIECE_BYTES)
                os.chmod(location, member.mode & 0o777)
                os.utime(location, (shards.MTIME, shards.MTIME))
            status = os.lstat(location)
            yield [path, status.st_size, 0 if member.issym() else status.st_mtime_ns]


def _checked(member: tarfile.TarInfo) -> str:
    parts = member.name.split("/")
    if "\0" in member.name or any(part in ("", ".", "..") for part in parts):
        raise tree.HostileName("{!r} leads out of it".format(member.name))
    if member.issym():
        tree.check_target(member.name, member.linkname)
    elif not member.isreg():
        raise tree.HostileName("{!r} is no file".format(member.name))
    return member.name


def _is_intact(place: _Place, shard: Shard, root: str) -> bool:
    """Every file that the shard put there is as it was put there, by size and time."""
    try:
        with open(place.rows(shard.number), encoding="ascii") as listing:
            for line in listing:
                path, size, mtime_ns = json.loads(line)
                status = os.lstat(root + "/" + path)
                found = 0 if stat.S_ISLNK(status.st_mode) else status.st_mtime_ns
                if (status.st_size, found) != (size, mtime_ns):
                    return False
    except (OSError, ValueError):
        return False
    return True


def _check_room(place: _Place, missing: List[Shard]) -> None:
    needed = int(sum(shard.size for shard in missing) * _ROOM) + _SPARE_BYTES
    free = shutil.disk_usage(place.parent).free
    if free < needed:
        raise Refusal(
            "cannot pull to {}: it takes {} MB, and {} MB are free there".format(
                place.to, -(-needed // 1000000), free // 1000000
            ),
            "make room on the runtime (colabdev ssh -- df -h), or say another place with --to",
        )


def _is_empty_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path)


class _Proving:
    """A file that is hashed while somebody else reads it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self.digest.update(piece)
        self.size += len(piece)
        return piece

    def drain(self) -> None:
        """Read what the reader left."""
        while self.read(_PIECE_BYTES):
            pass
