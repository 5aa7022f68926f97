"""A data set on Drive: names and formats, for both ends.

    <drive_dir>/colabdev/data/<name>/<content id>/
        000/00001.tar …    the shards: plain tars, fewer than 100 in a folder
        index.json         what belongs to it; written last: without it there is no such data set

A shard that was torn is left where it is and written again as `00001-2.tar`; an index that names other
files than the one before is `index-2.json`, and the newest that is whole counts. The content id is the
hash of the shards' hashes, so an index proves itself.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence

from .drive import check_part

SCHEMA = 1
DATA = "data"
INDEX = "index"
MTIME = 315532800
"""All files in shards have this time (1980-01-01): a data set is its contents."""
_PER_FOLDER = 50


class Shard(NamedTuple):
    """One tar of a data set."""

    number: int
    size: int
    """Of the tar, in bytes."""
    sha256: str
    files: int


class Index(NamedTuple):
    """What belongs to a data set."""

    name: str
    content: str
    pushed: str
    """RFC 3339, UTC."""
    files: int
    size_bytes: int
    """Of the contents, unpacked."""
    shards: List[Shard]
    paths: List[str]
    """Where each shard is, below the content id's folder."""


def content_id(shards: Iterable[Shard]) -> str:
    """What names a data set of these shards."""
    digest = hashlib.sha256()
    for shard in shards:
        digest.update("{} {}\n".format(shard.sha256, shard.size).encode("ascii"))
    return digest.hexdigest()


def folder_of(number: int) -> str:
    """The folder of a shard, below the content id's."""
    return "{:03d}".format((number - 1) // _PER_FOLDER)


def stem_of(number: int) -> str:
    """A shard's name without what follows it."""
    return "{:05d}".format(number)


def index_to_document(index: Index) -> Dict[str, Any]:
    """The index as JSON has it."""
    return dict(index._asdict(), schema=SCHEMA, shards=[list(shard) for shard in index.shards])


def index_from_bytes(content: bytes) -> Index:
    """The index that was written; ValueError when that is none, or not all of it."""
    try:
        told = json.loads(content.decode("ascii"))
        if told["schema"] != SCHEMA:
            raise ValueError("it is of another version's format")
        shards = [_shard(row) for row in told["shards"]]
        paths = [_path(path) for path in told["paths"]]
        texts = [str(told[key]) for key in ("name", "content", "pushed")]
        numbers = [int(told[key]) for key in ("files", "size_bytes")]
    except (TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ValueError("it is no index: {}".format(exc)) from exc
    if len(paths) != len(shards) or content_id(shards) != texts[1]:
        raise ValueError("it does not name the shards that it is of")
    return Index(texts[0], texts[1], texts[2], numbers[0], numbers[1], shards, paths)


def _shard(row: Sequence[Any]) -> Shard:
    number, size, sha256, files = row
    return Shard(int(number), int(size), str(sha256), int(files))


def _path(path: str) -> str:
    for part in path.split("/"):
        check_part(part)
    return path
