"""Environments as archives on Drive, one file each, which another machine unpacks instead of installing.

    <drive_dir>/colabdev/environments/<key>.zip     a torn one stays, and is stored again as <key>-2.zip

A zip of projects' form (`archive`), so that nothing counts that is not as it was, and no link leads out.
In it are `environments.WHOLE`, which says how long it took to make, and `environments.FILES`, with the
place where it was made: programs name that, and are told the new one. The links to the machine's own
Python are no part of it: they are made anew. On Drive a file's time is that of its last use.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from typing import Any, BinaryIO, Dict, List, Optional, Tuple

from . import archive, drive, environments, tree
from .archive import Archive, Broken
from .child import Say
from .storing import now
from .tree import LINK, Entry

FOLDER = "environments"
SUFFIX = ".zip"

MOST_UNPACKED_BYTES = 6 << 30
"""A larger one is not kept."""
_MOST = 8
_MOST_BYTES = 3 << 30
"""Of all of them on Drive, which is 15 GB for most people."""
_TORN_AGE_S = 3600.0
_PROJECT = "environment"
_INTERPRETER = re.compile(r"bin/python[0-9.]*")
_NAMES_ITS_PLACE = re.compile(r"bin/[^/]+|pyvenv\.cfg")
_MOST_TEXT_BYTES = 1 << 20
_TOLD_EVERY_S = 0.5
_WHO = "import json, sys; print(json.dumps([sys.prefix, sys.version]))"


class CannotKeep(Exception):
    """It says why, in a sentence."""


def folder_in(drive_dir: str) -> str:
    """Where they are; OSError without a Drive."""
    return os.path.join(drive.root_of(drive_dir), FOLDER)


# --- packing ------------------------------------------------------------------------------------


def pack(directory: str, file: BinaryIO) -> None:
    """Write the environment as it was made; CannotKeep when that is not how it is any more."""
    paths, outward = [environments.WHOLE, environments.FILES], []
    total = 0
    for path, size, mtime_ns in _read(directory, environments.FILES)["files"]:
        location = os.path.join(directory, path)
        try:
            status = os.lstat(location)
            tree.check_name(path)
        except (OSError, tree.HostileName) as exc:
            raise CannotKeep("{} is not as it was made: {}".format(path, exc)) from exc
        if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
            raise CannotKeep("{} was changed since it was made".format(path))
        total += size
        target = os.readlink(location) if os.path.islink(location) else ""
        if target and _leads_out(path, target):
            if not _INTERPRETER.fullmatch(path):
                raise CannotKeep("{} is a link to {}".format(path, target))
            outward.append((path, target))
        else:
            paths.append(path)
    if total > MOST_UNPACKED_BYTES:
        raise CannotKeep("it is {:.1f} GB".format(total / 1e9))
    about = {"project": _PROJECT, "stored": now(), "origin": os.path.basename(directory)}
    archive.write(file, directory, paths, outward, about)


def _leads_out(path: str, target: str) -> bool:
    try:
        tree.check_target(path, target)
    except tree.HostileName:
        return True
    return False


def _read(directory: str, name: str) -> Dict[str, Any]:
    with open(os.path.join(directory, name), "rb") as file:
        document: Dict[str, Any] = json.loads(file.read().decode("ascii"))
    return document


# --- on Drive -----------------------------------------------------------------------------------


def stored(folder: str, key: str) -> List[str]:
    """The archives of that name; any may be torn."""
    return drive.same_named(folder, key, SUFFIX)


def open_listed(file: BinaryIO, key: str) -> Archive:
    """The archive, whose list of files is whole; Broken when it is not, or of another environment."""
    packed = Archive(file)
    if (packed.summary.project, packed.summary.origin) != (_PROJECT, key):
        raise Broken("it is of another environment than its name says")
    return packed


def prune(folder: str, just_stored: str, when: Optional[float] = None) -> None:
    """Remove the archives that were not used for longest, beyond what they may be and take; what is torn
    goes, once nobody can be writing it any more."""
    when = time.time() if when is None else when
    kept, total = 0, 0
    for used, size, path in sorted(_uses(folder), reverse=True):
        if path != just_stored:
            is_torn = not _has_end(path)
            if is_torn and when - used <= _TORN_AGE_S:
                continue
            if is_torn or kept + 1 >= _MOST or total + size > _MOST_BYTES:
                with suppress(OSError):
                    drive.remove(path)
                continue
            kept += 1
        total += size


def _uses(folder: str) -> List[Tuple[float, int, str]]:
    rows = []
    for name in drive.list_names(folder):
        path = os.path.join(folder, name)
        with suppress(FileNotFoundError):
            status = os.stat(path)
            rows.append((status.st_mtime, status.st_size, path))
    return [row for row in rows if row[2].endswith(SUFFIX)]


def _has_end(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            archive.read_summary(file)
    except (OSError, Broken):
        return False
    return True


# --- bringing -----------------------------------------------------------------------------------


def bring(drive_dir: str, directory: str, python: Dict[str, Any], say: Say) -> None:
    """Unpack the environment from Drive into the directory, which is not there; `python` is what this
    machine's said. Says `{"done", "size"}` meanwhile and at last `{"end", "found", "path", "cold_s",
    "problem"}`: `found` says whether Drive has any. It may hang as Drive does."""
    folder, key = folder_in(drive_dir), os.path.basename(directory)
    end: Dict[str, Any] = {"end": True, "found": False, "path": "", "problem": ""}
    here = os.path.join(os.path.dirname(directory), ".{}{}".format(key, SUFFIX))
    for path in stored(folder, key):
        end["found"] = True
        try:
            _copy(path, here, say)
            with open(here, "rb") as file:
                cold_s = _unpack(open_listed(file, key), directory, python, say)
        except Broken as exc:
            end["problem"] = str(exc)
            shutil.rmtree(directory, ignore_errors=True)
            continue
        finally:
            with suppress(FileNotFoundError):
                os.unlink(here)
        with suppress(OSError):
            os.utime(path)
        say({**end, "path": path, "cold_s": cold_s, "problem": ""})
        return
    say(end)


def _copy(source: str, target: str, say: Say) -> None:
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


def _unpack(packed: Archive, directory: str, python: Dict[str, Any], say: Say) -> float:
    """Every file as it was, under the new place's name; Broken when that is not to be had. How long it
    took to make it, in seconds."""
    os.mkdir(directory, 0o700)
    files = [entry for entry in packed.entries if entry.kind != LINK]
    documents = {}
    made = {directory}
    told_at = 0.0
    for entry in files:
        if entry.path in (environments.WHOLE, environments.FILES):
            documents[entry.path] = _document(packed, entry)
        if entry.path != environments.WHOLE:  # Written when all is there.
            _write(packed, entry, directory, made)
        if time.monotonic() >= told_at:
            told_at = time.monotonic() + _TOLD_EVERY_S
            say({"unpacking": entry.path})
    try:
        cold_s = float(documents[environments.WHOLE]["cold_s"])
        place = str(documents[environments.FILES]["directory"])
    except (KeyError, TypeError, ValueError) as exc:
        raise Broken("it does not say what it is of") from exc
    # Links last: so nothing was written through one.
    _link(packed, directory, python["program"])
    if place != directory:
        _tell_place(files, place, directory)
    _check(directory, python["version"])
    return cold_s


def _document(packed: Archive, entry: Entry) -> Dict[str, Any]:
    try:
        document = json.loads(b"".join(packed.content(entry)).decode("ascii"))
    except (ValueError, RecursionError) as exc:
        raise Broken("{}: it is no JSON".format(entry.path)) from exc
    if not isinstance(document, dict):
        raise Broken("{}: it is no JSON object".format(entry.path))
    return document


def _write(packed: Archive, entry: Entry, directory: str, made: "set[str]") -> None:
    path = os.path.join(directory, entry.path)
    parent = os.path.dirname(path)
    if parent not in made:
        os.makedirs(parent, exist_ok=True)
        made.add(parent)
    mode = 0o755 if entry.executable else 0o644
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(handle, "wb") as file:
        for piece in packed.content(entry):
            file.write(piece)
    # What Python compiled names the time of its source.
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))


def _link(packed: Archive, directory: str, program: str) -> None:
    links = [(entry.path, entry.target) for entry in packed.entries if entry.kind == LINK]
    # Of what leads out only the name is taken from the archive: it is the Python of this machine.
    links += [(path, program) for path, _ in packed.left_out if _INTERPRETER.fullmatch(path)]
    for path, target in links:
        place = os.path.join(directory, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        try:
            os.symlink(target, place)
        except FileExistsError as exc:
            raise Broken("{} is in it twice".format(path)) from exc


def _tell_place(files: List[Entry], before: str, directory: str) -> None:
    """Programs begin with the place of their Python."""
    old, new = os.fsencode(before), os.fsencode(directory)
    for entry in files:
        if entry.size > _MOST_TEXT_BYTES or not _NAMES_ITS_PLACE.fullmatch(entry.path):
            continue
        path = os.path.join(directory, entry.path)
        with open(path, "r+b") as file:
            content = file.read()
            if old in content and b"\0" not in content:
                file.seek(0)
                file.truncate()
                file.write(content.replace(old, new))


def _check(directory: str, version: str) -> None:
    """Its Python runs, takes it for its own, and is the one that it was made with."""
    python = os.path.join(directory, "bin", "python3")
    try:
        told = subprocess.run(
            [python, "-I", "-c", _WHO],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        ).stdout
        prefix, found = json.loads(told.decode("ascii"))
    except (OSError, ValueError, subprocess.CalledProcessError) as exc:
        raise Broken("its Python does not run: {}".format(exc)) from exc
    if (os.path.realpath(prefix), found) != (os.path.realpath(directory), version):
        raise Broken("its Python is another")
