"""A job's own copy of the code, and what becomes of the things that the job wrote into it.

`code/<tree hash>/` holds a copy of every file that sync put into the work dir, and a link for every
other entry of the work dir's top level (data, outputs), so that paths beside the code lead where they
always did. code.json remembers each copy's size and times, or a link's target, which tells later what
the job changed.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import Any, Dict, Iterable, Iterator, List, NoReturn, Set, Tuple

from .jobdir import JobFiles, read_document, write_document

_CACHES = "__pycache__"


def freeze(
    workdir: str, tree_hash: str, paths: Iterable[str], private: str, files: JobFiles
) -> None:
    """Copy the owned `paths` (relative, `/` between) and link the rest, but for `private`."""
    code = os.path.join(files.code, tree_hash)
    os.makedirs(code)
    copies = {}
    paths = sorted(paths)
    for path in paths:
        told = _copy(os.path.join(workdir, path), os.path.join(code, path))
        if told is not None:
            copies[path] = told
    furnish(workdir, tree_hash, copies, {*paths, private}, files)


def furnish(
    workdir: str, tree_hash: str, copies: Dict[str, Any], without: Iterable[str], files: JobFiles
) -> None:
    """Link what the work dir has beside the `copies`, but for what lies at the top of `without`, and
    write down what is a copy and how it is now (`look`)."""
    code = os.path.join(files.code, tree_hash)
    tops = {path.split("/", 1)[0] for path in without}
    for name in set(os.listdir(workdir)) - tops - {_CACHES}:
        os.symlink(os.path.join(workdir, name), os.path.join(code, name))
    _link_strangers(workdir, code, copies)
    write_document(files.code_list, {"tree_hash": tree_hash, "copies": copies})


def bring_back(workdir: str, files: JobFiles) -> List[Tuple[str, str]]:
    """Move what the job wrote into its code directory to the work dir, never over a newer file there.

    Returns (path, reason) for each thing that stays in the code directory, which is deleted when
    nothing does. Done twice it is done once.
    """
    listed = read_document(files.code_list)
    if listed is None:
        return []
    code = os.path.join(files.code, str(listed["tree_hash"]))
    kept = []
    for path in list(_written(workdir, code, listed["copies"])):
        source, target = os.path.join(code, path), os.path.join(workdir, path)
        reason = _reason_to_stay(source, target, listed["copies"].get(path))
        if reason:
            kept.append((path, reason))
            continue
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.islink(source):
                _move_link(source, target, _leading_home(os.readlink(source), code, workdir))
            else:
                _move(source, target)
        except OSError as exc:
            kept.append((path, str(exc)))
    if not kept:
        shutil.rmtree(files.code, ignore_errors=True)
    return kept


def _copy(source: str, target: str) -> Any:
    """Copy one entry; its `look` then, None when it is no file and no link, or gone."""
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
    else:
        return None
    return look(target)


def look(path: str) -> Any:
    """What tells whether somebody changed it: a link's target, a file's size and time; else None."""
    seen = os.lstat(path)
    if stat.S_ISLNK(seen.st_mode):
        return os.readlink(path)
    return [seen.st_size, seen.st_mtime_ns] if stat.S_ISREG(seen.st_mode) else None


def _link_strangers(workdir: str, code: str, copies: Dict[str, Any]) -> None:
    """Link what stands in the work dir inside copied folders and is not ours: `src/data/`, say."""
    folders: Set[str] = set()
    for path in copies:
        parts = path.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    for folder in sorted(folders):
        source, target = os.path.join(workdir, folder), os.path.join(code, folder)
        if not os.path.isdir(source):
            continue  # The copies are not from here.
        for name in set(os.listdir(source)) - set(os.listdir(target)) - {_CACHES}:
            os.symlink(os.path.join(source, name), os.path.join(target, name))


def _written(workdir: str, code: str, copies: Dict[str, Any]) -> Iterator[str]:
    """The files and links below `code` that are neither as they were copied nor our links to the
    work dir. OSError when not all of it can be seen."""
    if not os.path.isdir(code):
        return
    for folder, folders, names in os.walk(code, onerror=_fail):
        folders[:] = [name for name in folders if name != _CACHES]
        for name in [*folders, *names]:  # A link to a folder is among the folders.
            full = os.path.join(folder, name)
            path = os.path.relpath(full, code)
            seen = look(full)
            if seen not in (None, copies.get(path), os.path.join(workdir, path)):
                yield path


def _fail(error: OSError) -> NoReturn:
    raise error


def _reason_to_stay(source: str, target: str, copied: Any) -> str:
    here = os.lstat(source)
    try:
        there = os.lstat(target)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_IFMT(there.st_mode) != stat.S_IFMT(here.st_mode):
        kind = "link" if stat.S_ISLNK(here.st_mode) else "file"
        return "something that is no {} stands there".format(kind)
    if copied is not None and copied != look(target):
        return "the work dir's file was edited meanwhile"
    if there.st_mtime_ns > here.st_mtime_ns:
        return "the work dir's file is newer"
    return ""


def _leading_home(link: str, code: str, workdir: str) -> str:
    """Where a link leads once what it led to was moved to the work dir with it."""
    return workdir + link[len(code) :] if link.startswith(code + "/") else link


def _move_link(source: str, target: str, leading_to: str) -> None:
    staging = "{}.colabdev-{}".format(target, os.getpid())
    os.symlink(leading_to, staging)
    try:
        os.replace(staging, target)
    finally:
        if os.path.lexists(staging):
            os.unlink(staging)
    os.unlink(source)


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
