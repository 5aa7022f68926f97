"""The requests about data sets on Drive: what there is, and taking one in, shard by shard."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import drive, shards, tree
from .refusal import Refusal
from .shards import Index, Shard
from .shelf import not_mounted
from .sync import Upload

Answer = Tuple[Dict[str, Any], bytes]

_STALE_S = 7 * 24 * 3600.0
_SAY_S = 1.0


def answer_list(arguments: Dict[str, Any], body: bytes) -> Answer:
    """`data`: the data sets, by name and then the newest first, each as its index but for the shards."""
    root = data_root(arguments)
    told = []
    for name in drive.list_names(root):
        for index in indexes(root, name):
            row = index._asdict()
            row["shards"] = len(row["shards"])
            del row["paths"]
            told.append(row)
    return {"data": told}, b""


def check(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """What is there of the `shards` of a data set: `{"number", "path", "staged"}` for each, then `end`.

    `path` is that of a whole one on Drive, else null; `staged` the bytes of it that came here before.
    Meanwhile `{"checked"}` says how much was read. `published`: the whole index is there already.
    """
    folder = _content_folder(arguments)
    _forget_stale()
    known = indexes(data_root(arguments), str(arguments["name"]))
    for row in arguments["shards"]:
        shard = Shard(*row)
        path = None
        place = os.path.join(folder, shards.folder_of(shard.number))
        for candidate in drive.same_named(place, shards.stem_of(shard.number), ".tar"):
            if os.stat(candidate).st_size != shard.size:
                continue
            read = _Digest(candidate)
            for done in read.pieces():
                yield {"checked": done}, b""
            if read.hexdigest == shard.sha256:
                path = os.path.relpath(candidate, folder)
                break
        staged = 0 if path else min(_size(_staged(arguments, shard.number)), shard.size)
        yield {"number": shard.number, "path": path, "staged": staged}, b""
    yield (
        {"end": True, "published": arguments["content"] in [index.content for index in known]},
        b"",
    )


def put(arguments: Dict[str, Any], upload: Upload) -> Answer:
    """Take a shard from `offset` on, prove it, and put it on Drive.

    Arguments: `drive_dir`, `name`, `content`, `shard`, `offset`. The answer: `{"path", "level"}`, or
    `{"problem"}` when it is not what it should be. What came stays on this disk until then, so that a
    cut costs nothing.
    """
    folder = _content_folder(arguments)
    shard = Shard(*arguments["shard"])
    staged = _staged(arguments, shard.number)
    os.makedirs(os.path.dirname(staged), mode=0o700, exist_ok=True)
    with open(os.open(staged, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        # Whoever writes here writes the same bytes at the same places.
        file.seek(int(arguments["offset"]))
        while True:
            header, piece = upload.next_frame()
            if header.get("end"):
                break
            file.write(piece)
        file.truncate()
        file.seek(0)
        digest = hashlib.sha256()
        for piece in drive.pieces(file):
            digest.update(piece)
        if digest.hexdigest() != shard.sha256 or file.tell() != shard.size:
            os.unlink(staged)
            return {"problem": "it is not what it was when it was hashed"}, b""
        file.seek(0)
        place = os.path.join(folder, shards.folder_of(shard.number))
        stored = drive.put(file, place, shards.stem_of(shard.number), ".tar")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(staged)
    return {"path": os.path.relpath(stored.path, folder), "level": stored.level}, b""


def commit(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Write the `index`: from now on the data set is there. `{"level"}` is how far Drive got with it."""
    folder = _content_folder(arguments)
    document = arguments["index"]
    content = json.dumps(document, indent=1).encode("ascii")
    index = shards.index_from_bytes(content)
    for path, shard in zip(index.paths, index.shards):
        if _size(os.path.join(folder, path)) != shard.size:
            raise Refusal("cannot finish the data set: {} is not on Drive any more".format(path))
    stored = drive.put(io.BytesIO(content), folder, shards.INDEX, ".json")
    return {"level": stored.level}, b""


def data_root(arguments: Dict[str, Any]) -> str:
    """Where the data sets are; Refusal without a Drive."""
    try:
        return os.path.join(drive.root_of(str(arguments["drive_dir"])), shards.DATA)
    except OSError as exc:
        raise not_mounted() from exc


def indexes(root: str, name: str) -> List[Index]:
    """The versions of a data set that are whole by their index, newest first."""
    found: Dict[str, Index] = {}
    for content in drive.list_names(os.path.join(root, name)):
        folder = os.path.join(root, name, content)
        if not os.path.isdir(folder):
            continue
        for path in drive.same_named(folder, shards.INDEX, ".json"):
            index = _read_index(path)
            if index is None or index.content != content:
                continue
            if content not in found or index.pushed > found[content].pushed:
                found[content] = index
    return sorted(found.values(), key=lambda index: (index.pushed, index.content))[::-1]


def _read_index(path: str) -> Optional[Index]:
    """The index in that file; None for one that was torn."""
    try:
        with open(path, "rb") as file:
            return shards.index_from_bytes(file.read())
    except (OSError, ValueError):
        return None


def _content_folder(arguments: Dict[str, Any]) -> str:
    name = drive.check_part(arguments["name"])
    return os.path.join(data_root(arguments), name, drive.check_part(arguments["content"]))


class _Digest:
    """The hash of a file on Drive, with a word now and then: it may be slow to come."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.hexdigest = ""

    def pieces(self) -> Iterator[int]:
        """How much was read, about once a second; `hexdigest` is known at the end."""
        digest, done, said_at = hashlib.sha256(), 0, time.monotonic()
        with open(self._path, "rb") as file:
            for piece in drive.pieces(file):
                digest.update(piece)
                done += len(piece)
                if time.monotonic() - said_at >= _SAY_S:
                    said_at = time.monotonic()
                    yield done
        self.hexdigest = digest.hexdigest()


def _staging() -> str:
    return os.path.join(os.path.expanduser("~"), ".cache", tree.OURS[1:], "data")


def _staged(arguments: Dict[str, Any], number: int) -> str:
    content = drive.check_part(arguments["content"])
    return os.path.join(_staging(), "{}-{}".format(content, shards.stem_of(number)))


def _forget_stale() -> None:
    """What came of data sets that nobody went on with."""
    for name in drive.list_names(_staging()):
        path = os.path.join(_staging(), name)
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime > _STALE_S:
                os.unlink(path)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
