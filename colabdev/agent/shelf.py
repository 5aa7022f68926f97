"""The archives of projects on Drive: storing one, keeping the newest, and handing them out.

<drive_dir>/colabdev/<project>/code/<tree hash>.zip, <tree hash>-2.zip, …
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import archive, drive
from .archive import Archive, Broken, Summary
from .drive import Stored
from .refusal import Refusal

Answer = Tuple[Dict[str, Any], bytes]

KEPT = 20
"""As many archives of one project from one place stay."""
_MOST = 90
_TORN_AGE_S = 3600.0
_SUFFIX = ".zip"
_SENT_BYTES = 256 * 1024


class Found(NamedTuple):
    """An archive on Drive whose end can be read."""

    path: str
    size: int
    mtime: float
    summary: Summary


def code_folder(drive_dir: str, project: str) -> str:
    """Where the archives of a project are; OSError without a Drive."""
    return os.path.join(drive.root_of(drive_dir), drive.check_part(project), "code")


def find_whole(folder: str, tree_hash: str, known: Optional[Stored]) -> Optional[Stored]:
    """The archive of that tree that is there already and whole; a torn one is none.

    `known` was proved before by us: then its size is proof enough.
    """
    for path in drive.same_named(folder, tree_hash, _SUFFIX):
        with contextlib.suppress(Broken, FileNotFoundError), open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if known is not None and (path, size) == (known.path, known.size):
                return known
            _verified(file, tree_hash)
            return Stored(path, size, drive.level_of(path))
    return None


def store(folder: str, tree_hash: str, packed: BinaryIO) -> Stored:
    """Put an archive on Drive, and let the oldest go."""
    stored = drive.put(packed, folder, tree_hash, _SUFFIX)
    with contextlib.suppress(OSError):
        prune(folder)
    return stored


def prune(folder: str, now: Optional[float] = None) -> None:
    """Keep the newest archives of each origin; what is torn, and old enough not to be one that is
    written right now, goes."""
    now = time.time() if now is None else now
    kept: Dict[str, int] = {}
    total = 0
    for path, found in _newest_first(folder):
        if found is None:
            with contextlib.suppress(OSError):
                if now - os.stat(path).st_mtime > _TORN_AGE_S:
                    drive.remove(path)
            continue
        origin = found.summary.origin
        kept[origin] = kept.get(origin, 0) + 1
        total += 1
        if kept[origin] > KEPT or total > _MOST:
            with contextlib.suppress(OSError):
                drive.remove(path)


def _newest_first(folder: str) -> List[Tuple[str, Optional[Found]]]:
    """The archives by the time inside them, those that cannot be read last."""
    paths = [os.path.join(folder, name) for name in drive.list_names(folder)]
    rows = [(path, _look(path)) for path in paths if path.endswith(_SUFFIX)]
    return sorted(rows, key=lambda row: (row[1].summary.stored if row[1] else "", row[0]))[::-1]


def _look(path: str) -> Optional[Found]:
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            return Found(path, status.st_size, status.st_mtime, archive.read_summary(file))
    except (OSError, Broken):
        return None


def _verified(file: BinaryIO, tree_hash: str) -> None:
    packed = Archive(file)
    if packed.summary.tree != tree_hash:
        raise Broken("it is of another tree than its name says")
    packed.verify()


# --- requests -----------------------------------------------------------------------------------


def answer_list(arguments: Dict[str, Any], body: bytes) -> Answer:
    """The projects on Drive and the archives of each, newest first; of one with `project`.

    Answer: `projects`, each with `project` and `archives`: `name`, `size_bytes`, and what the archive
    says of itself, or `broken`.
    """
    root = _root(arguments)
    wanted = arguments.get("project")
    names = drive.list_names(root) if wanted is None else [drive.check_part(wanted)]
    told = []
    for name in names:
        folder = os.path.join(root, name, "code")
        if os.path.isdir(folder):
            rows = [_row(path, found) for path, found in _newest_first(folder)]
            told.append({"project": name, "archives": rows})
    return {"projects": told}, b""


def fetch(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Send an archive: `{"size"}`, then its bytes, then `{"end"}`. Arguments: `drive_dir`, `project`,
    `name`."""
    parts = [drive.check_part(arguments[name]) for name in ("project", "name")]
    path = os.path.join(_root(arguments), parts[0], "code", parts[1])
    with open(path, "rb") as file:
        yield {"size": os.fstat(file.fileno()).st_size}, b""
        for piece in drive.pieces(file, _SENT_BYTES):
            yield {}, piece
    yield {"end": True}, b""


def _row(path: str, found: Optional[Found]) -> Dict[str, Any]:
    row: Dict[str, Any] = {"name": os.path.basename(path)}
    if found is None:
        return dict(row, broken=True)
    # The contents' size is the summary's; that of the file goes by another name.
    return dict(row, broken=False, packed_bytes=found.size, **found.summary._asdict())


def _root(arguments: Dict[str, Any]) -> str:
    try:
        return drive.root_of(str(arguments["drive_dir"]))
    except OSError as exc:
        raise not_mounted() from exc


def not_mounted() -> Refusal:
    """For a runtime whose Drive is not there."""
    return Refusal(
        "cannot reach Drive: it is not mounted on the runtime", "colabdev connect mounts it again"
    )
