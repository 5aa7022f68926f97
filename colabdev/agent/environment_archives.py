"""Environments as bundles on Drive, which another machine unpacks instead of installing.

    <drive_dir>/colabdev/environments/<key>.zip

In it are `environments.WHOLE`, which says how long it took to make, and `environments.FILES`, with the
place where it was made: programs name that, and are told the new one. The links to the machine's own
Python are no part of it: they are made anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import suppress
from typing import Any, BinaryIO, Dict, List

from . import archive, bundles, environments, tree
from .archive import Archive, Broken
from .bundles import Kind, Name
from .child import Say
from .storing import now
from .tree import Entry

KIND = Kind("environments", "environment", 8, 3 << 30)
"""A Drive is 15 GB for most people."""
MOST_UNPACKED_BYTES = 6 << 30
"""A larger one is not kept."""

_INTERPRETER = re.compile(r"bin/python[0-9.]*")
_NAMES_ITS_PLACE = re.compile(r"bin/[^/]+|pyvenv\.cfg")
_MOST_TEXT_BYTES = 1 << 20
_WHO = "import json, sys; print(json.dumps([sys.prefix, sys.version]))"


class CannotKeep(Exception):
    """It says why, in a sentence."""


def name_of(directory: str) -> Name:
    """By its key."""
    key = os.path.basename(directory)
    return Name(KIND, key, key)


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
    about = {"project": KIND.word, "stored": now(), "origin": os.path.basename(directory)}
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


# --- bringing -----------------------------------------------------------------------------------


def bring(drive_dir: str, directory: str, python: Dict[str, Any], say: Say) -> None:
    """Unpack the environment from Drive into the directory, which is not there; `python` is what this
    machine's said. Says `{"done", "size"}` meanwhile and at last `{"end", "found", "path", "cold_s",
    "problem"}`: `found` says whether Drive has any. It may hang as Drive does."""
    folder, name = bundles.folder_in(drive_dir, KIND), name_of(directory)
    end: Dict[str, Any] = {"end": True, "found": False, "path": "", "problem": ""}
    here = os.path.join(os.path.dirname(directory), ".{}{}".format(name.stem, bundles.SUFFIX))
    for path in bundles.stored(folder, name):
        end["found"] = True
        try:
            bundles.copy(path, here, say)
            with open(here, "rb") as file:
                cold_s = _unpack(bundles.open_listed(file, name), directory, python, say)
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


def _unpack(packed: Archive, directory: str, python: Dict[str, Any], say: Say) -> float:
    """Every file as it was, under the new place's name; Broken when that is not to be had. How long it
    took to make it, in seconds."""
    documents = {
        entry.path: _document(packed, entry)
        for entry in packed.entries
        if entry.path in (environments.WHOLE, environments.FILES)
    }
    try:
        cold_s = float(documents[environments.WHOLE]["cold_s"])
        place = str(documents[environments.FILES]["directory"])
    except (KeyError, TypeError, ValueError) as exc:
        raise Broken("it does not say what it is of") from exc
    # What says that it is whole is written when it is.
    files = bundles.unpack(packed, directory, say, later={environments.WHOLE})
    for path, _ in packed.left_out:
        # Of what leads out only the name is taken from the archive: it is the Python of this machine.
        if _INTERPRETER.fullmatch(path):
            bundles.link(directory, path, python["program"])
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
