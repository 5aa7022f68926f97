"""What one machine made and the next one unpacks: a folder as one archive on Drive, in projects' form.

    <drive_dir>/colabdev/<folder>/<stem>.zip     a torn one stays, and is stored again as <stem>-2.zip

Nothing counts that is not as it was packed, and nothing is written out of the place it is unpacked to:
files come before links, and no link leads out. A file's time on Drive is that of its last use.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any, BinaryIO, Container, List, NamedTuple, Optional, Set, Tuple

from . import archive, arrival, drive, manifest, taking
from .archive import Archive, Broken
from .arrival import Patience
from .child import Say
from .opening import open_named
from .store_folder import mounted_below
from .stores import PROVED, SILENT, Receipt, Store, StoreError
from .tree import LINK, Entry

SUFFIX = ".zip"
_TORN_AGE_S = 3600.0
_MOST_NAMES = 20
_TOLD_EVERY_S = 0.5


class Kind(NamedTuple):
    """One sort of them."""

    folder: str
    """On Drive, below our own."""
    word: str
    """What an archive says that it is of."""
    most: int
    """So many stay, those that were used last."""
    most_bytes: int


class Name(NamedTuple):
    """What an archive is of: it says so itself."""

    kind: Kind
    stem: str
    origin: str


def folder_in(drive_dir: str, kind: Kind) -> str:
    """Where they are; OSError without a Drive."""
    return os.path.join(drive.root_of(drive_dir), kind.folder)


def stored(folder: str, name: Name) -> List[str]:
    """The archives of that name; any may be torn."""
    return drive.same_named(folder, name.stem, SUFFIX)


def open_listed(file: BinaryIO, name: Name) -> Archive:
    """The archive, whose list of files is whole; Broken when it is not, or of something else."""
    packed = Archive(file)
    if (packed.summary.project, packed.summary.origin) != (name.kind.word, name.origin):
        raise Broken("it is of something else than its name says")
    return packed


# --- storing ------------------------------------------------------------------------------------


def put(drive_dir: str, name: Name, packed: str, say: Say) -> Tuple[str, str]:
    """See that Drive has the file `packed`, or another that is whole: where, and on what level that is
    proved. StoreError says why not. It may hang as Drive does."""
    is_drive = mounted_below(os.path.realpath(drive_dir)).startswith("fuse")
    store = open_named(manifest.DRIVEFS if is_drive else manifest.DISK, drive_dir, "")
    folder = folder_in(drive_dir, name.kind)
    begun = time.monotonic()
    path = _find(folder, name, say)
    if path is not None:
        entry = manifest.digests(path, _beat(say))
        receipt: Receipt = {"path": _below_root(path, name)}
    else:
        path = _free_path(folder, name)
        entry = manifest.digests(packed, _beat(say))
        _check_room(store, entry.size)
        receipt = store.put(_below_root(path, name), packed, entry, _beat(say))
    state = arrival.wait(store, [(receipt, entry)], Patience(), say, time.monotonic() - begun)
    if state == SILENT:
        return path, manifest.ACCEPTED
    return path, manifest.CONFIRMED if state == PROVED else manifest.PUBLISHED


def _find(folder: str, name: Name, say: Say) -> Optional[str]:
    """What another machine has stored meanwhile, if it is whole."""
    for path in stored(folder, name):
        with suppress(Broken, FileNotFoundError), open(path, "rb") as file:
            packed = open_listed(file, name)
            for entry in packed.entries:
                say({"reading": entry.path})
                for _ in packed.content(entry):
                    pass
            return path
    return None


def _free_path(folder: str, name: Name) -> str:
    taken = {os.path.basename(path) for path in stored(folder, name)}
    for number in range(1, _MOST_NAMES):
        free = name.stem + ("" if number == 1 else "-{}".format(number)) + SUFFIX
        if free not in taken:
            return os.path.join(folder, free)
    raise StoreError("it was begun too often")


def _check_room(store: Store, size: int) -> None:
    free = store.free_bytes()
    if free is not None and free < size + taking.RESERVE_BYTES:
        raise StoreError("there is no room for it on Drive")


def _below_root(path: str, name: Name) -> str:
    return "{}/{}".format(name.kind.folder, os.path.basename(path))


def _beat(say: Say) -> Any:
    return lambda done: say({"done": done})


def prune(
    folder: str, kind: Kind, just_stored: str, when: Optional[float] = None, prefix: str = ""
) -> None:
    """Of the archives whose names begin with `prefix` remove those that were not used for longest,
    beyond what they may be and take; what is torn goes, once nobody can be writing it any more."""
    when = time.time() if when is None else when
    kept, total = 0, 0
    for used, size, path in newest_first(folder, prefix):
        if path != just_stored:
            is_torn = not _has_end(path)
            if is_torn and when - used <= _TORN_AGE_S:
                continue
            if is_torn or kept + 1 >= kind.most or total + size > kind.most_bytes:
                with suppress(OSError):
                    drive.remove(path)
                continue
            kept += 1
        total += size


def newest_first(folder: str, prefix: str = "") -> List[Tuple[float, int, str]]:
    """When each was used, its size and its path."""
    rows = []
    for name in drive.list_names(folder):
        if name.startswith(prefix) and name.endswith(SUFFIX):
            path = os.path.join(folder, name)
            with suppress(FileNotFoundError):
                status = os.stat(path)
                rows.append((status.st_mtime, status.st_size, path))
    return sorted(rows, reverse=True)


def _has_end(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            archive.read_summary(file)
    except (OSError, Broken):
        return False
    return True


# --- unpacking ----------------------------------------------------------------------------------


def copy(source: str, target: str, say: Say) -> None:
    """One piece after the other, as Drive reads best; a zip is read here and there."""
    done, told_at = 0, 0.0
    with open(source, "rb", buffering=0) as reading, open(target, "wb", buffering=0) as writing:
        size = os.fstat(reading.fileno()).st_size
        for piece in drive.pieces(reading):
            rest = memoryview(piece)
            while rest:
                rest = rest[writing.write(rest) :]
            done += len(piece)
            if time.monotonic() >= told_at:
                told_at = time.monotonic() + _TOLD_EVERY_S
                say({"done": done, "size": size})


def unpack(packed: Archive, directory: str, say: Say, later: Container[str] = ()) -> List[Entry]:
    """Write every file, but those named by `later`, into the directory, which is not there; Broken at
    the first that is not as it was. The entries of the files."""
    os.mkdir(directory, 0o700)
    made = {directory}
    told_at = 0.0
    files = [entry for entry in packed.entries if entry.kind != LINK]
    for entry in files:
        if entry.path not in later:
            _write(packed, entry, directory, made)
        if time.monotonic() >= told_at:
            told_at = time.monotonic() + _TOLD_EVERY_S
            say({"unpacking": entry.path})
    for entry in packed.entries:
        if entry.kind == LINK:
            link(directory, entry.path, entry.target)
    return files


def _write(packed: Archive, entry: Entry, directory: str, made: Set[str]) -> None:
    path = os.path.join(directory, entry.path)
    parent = os.path.dirname(path)
    if parent not in made:
        os.makedirs(parent, exist_ok=True)
        made.add(parent)
    mode = 0o755 if entry.executable else 0o644
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except (FileExistsError, IsADirectoryError) as exc:
        raise Broken("{} is in it twice".format(entry.path)) from exc
    with open(handle, "wb") as file:
        for piece in packed.content(entry):
            file.write(piece)
    # What Python compiled names the time of its source.
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))


def link(directory: str, path: str, target: str) -> None:
    """Make a link once all files are there, so that nothing is written through it."""
    place = os.path.join(directory, path)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    try:
        os.symlink(target, place)
    except FileExistsError as exc:
        raise Broken("{} is in it twice".format(path)) from exc
