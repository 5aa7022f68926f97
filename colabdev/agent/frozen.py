"""A job's own copy of the code, and what becomes of the things that the job wrote into it.

`code/<tree hash>/` holds a copy of every file that sync put into the work dir, and a link for every
other entry of the work dir's top level (data, outputs), so that paths beside the code lead where they
always did. code.json remembers each copy's size and times, which tells later what the job changed.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import Any, Dict, Iterable, Iterator, List, Set, Tuple

from .jobdir import JobFiles, read_document, write_document

_CACHES = "__pycache__"


def freeze(
    workdir: str, tree_hash: str, paths: Iterable[str], private: str, files: JobFiles
) -> None:
    """Copy the owned `paths` (relative, `/` between) and link the rest, but for `private`."""
    code = os.path.join(files.code, tree_hash)
    os.makedirs(code)
    copies = {}
    tops = set()
    for path in sorted(paths):
        tops.add(path.split("/", 1)[0])
        told = _copy(os.path.join(workdir, path), os.path.join(code, path))
        if told is not None:
            copies[path] = told
    for name in set(os.listdir(workdir)) - tops - {_CACHES, private}:
        os.symlink(os.path.join(workdir, name), os.path.join(code, name))
    _link_strangers(workdir, code, copies)
    write_document(files.code_list, {"tree_hash": tree_hash, "copies": copies})


def bring_back(workdir: str, files: JobFiles) -> List[Tuple[str, str]]:
    """Move what the job wrote into its code directory to the work dir, never over a newer file there.

    Returns (path, reason) for each thing that stays in the code directory. Done twice it is done once.
    """
    listed = read_document(files.code_list)
    if listed is None:
        return []
    code = os.path.join(files.code, str(listed["tree_hash"]))
    kept = []
    for path in _written(code, listed["copies"]):
        source, target = os.path.join(code, path), os.path.join(workdir, path)
        reason = _reason_to_stay(source, target, listed["copies"].get(path))
        if reason:
            kept.append((path, reason))
            continue
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _move(source, target)
        except OSError as exc:
            kept.append((path, str(exc)))
    return kept


def _copy(source: str, target: str) -> Any:
    """Copy one entry; size and time of a regular file, None for anything else or when it is gone."""
    try:
        seen = os.lstat(source)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(seen.st_mode):
        os.makedirs(target, exist_ok=True)
        return None
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if stat.S_ISLNK(seen.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(seen.st_mode):
        shutil.copy2(source, target)
        copied = os.stat(target)
        return [copied.st_size, copied.st_mtime_ns]
    return None


def _link_strangers(workdir: str, code: str, copies: Dict[str, Any]) -> None:
    """Link what stands in the work dir inside copied folders and is not ours: `src/data/`, say."""
    folders: Set[str] = set()
    for path in copies:
        parts = path.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    for folder in sorted(folders):
        source, target = os.path.join(workdir, folder), os.path.join(code, folder)
        for name in set(os.listdir(source)) - set(os.listdir(target)) - {_CACHES}:
            os.symlink(os.path.join(source, name), os.path.join(target, name))


def _written(code: str, copies: Dict[str, Any]) -> Iterator[str]:
    """The files below `code` that are not as they were copied."""
    for folder, folders, names in os.walk(code):
        folders[:] = [name for name in folders if name != _CACHES]
        for name in names:
            full = os.path.join(folder, name)
            path = os.path.relpath(full, code)
            seen = os.lstat(full)
            if stat.S_ISREG(seen.st_mode) and copies.get(path) != [seen.st_size, seen.st_mtime_ns]:
                yield path


def _reason_to_stay(source: str, target: str, copied: Any) -> str:
    try:
        there = os.lstat(target)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if not stat.S_ISREG(there.st_mode):
        return "something that is no file stands there"
    if copied is not None and copied != [there.st_size, there.st_mtime_ns]:
        return "the work dir's file was edited meanwhile"
    if there.st_mtime_ns > os.lstat(source).st_mtime_ns:
        return "the work dir's file is newer"
    return ""


def _move(source: str, target: str) -> None:
    """Move a file so that at no moment half of it stands at `target`."""
    try:
        os.rename(source, target)
    except OSError:  # Another file system.
        staging = "{}.colabdev-{}".format(target, os.getpid())
        try:
            shutil.copy2(source, staging)
            os.replace(staging, target)
        finally:
            if os.path.lexists(staging):
                os.unlink(staging)
        os.unlink(source)
