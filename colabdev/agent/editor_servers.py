"""The servers that editors put on a machine, kept on Drive: the next one is spared the download.

    <drive_dir>/colabdev/editors/<server folder>-<processor>-<hash>.zip

What goes there is named below, and nothing else does: the program itself and its extensions. What a
server or an extension writes about its user stays: logs, tokens, sockets, and all of `data` (settings,
histories, what extensions keep). `python3 -I -S <agent> keep-editors <JSON>` is the daemon, one
for a machine, that looks now and then, and keeps what has not changed between two looks.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import time
from contextlib import suppress
from functools import partial
from typing import Any, Dict, Iterator, List, Tuple

from . import archive, bundles, daemons, drive, tree
from .archive import Broken
from .bundles import Kind, Name
from .child import Child, Say
from .stores import StoreError
from .storing import now
from .warm_start import STALL_S, last_word

Answer = Tuple[Dict[str, Any], bytes]

KIND = Kind("editors", "editor", 2, 2 << 30)
"""Of each editor: the one that is in use, and the one before."""
MOST_UNPACKED_BYTES = 3 << 30

_PROGRAMS = re.compile(
    r"bin/.+"
    r"|cli/servers/[^/]+/server/.+"
    r"|cli/servers/lru\.json"
    r"|extensions/.+"
    r"|(?:code|code-insiders|cursor|windsurf|codium)-[0-9a-f]{40}"
)
_PRIVATE = re.compile(
    r".*\.(?:log|pid|token|sock|lock)|(?:log|pid|token)\.txt|\.env(?:\..+)?"
    r"|\.netrc|\.npmrc|\.git-credentials|credentials|id_(?:rsa|dsa|ecdsa|ed25519)",
    re.IGNORECASE,
)
_PRIVATE_FOLDERS = frozenset({"logs", ".git", ".ssh"})
_FOLDER = re.compile(r"\.[a-z0-9-]+-server(?:-[a-z]+)?")
_PRIORITY = 19
_LOOK_S = 60.0


def check_folder(name: object) -> str:
    """`name`, when it may be a server's folder in the home; ValueError otherwise."""
    if not isinstance(name, str) or not _FOLDER.fullmatch(name):
        raise ValueError("{!r} is no editor's folder".format(name))
    return name


def programs_in(directory: str) -> Iterator[str]:
    """What of a server's folder is kept, as paths below it."""
    for parent, folders, names in os.walk(directory):
        linked = [one for one in folders if os.path.islink(os.path.join(parent, one))]
        folders[:] = [one for one in folders if one not in _PRIVATE_FOLDERS and one not in linked]
        for name in [*names, *linked]:
            location = os.path.join(parent, name)
            path = os.path.relpath(location, directory)
            if (
                _PROGRAMS.fullmatch(path)
                and not _PRIVATE.fullmatch(name)
                and _is_ours(location, path)
            ):
                yield path


def _is_ours(location: str, path: str) -> bool:
    """A file, or a link that stays inside."""
    if not os.path.islink(location):
        return os.path.isfile(location)
    try:
        tree.check_target(path, os.readlink(location))
    except tree.HostileName:
        return False
    return True


def _make_own(home: str) -> None:
    """Our own folder there: on a new machine nobody may have made it."""
    os.makedirs(os.path.join(home, ".colabdev"), mode=0o700, exist_ok=True)


def _prefix(folder: str) -> str:
    return "{}-{}-".format(folder.lstrip("."), platform.machine())


def _origin(directory: str) -> str:
    """Its lists name the place of each extension."""
    return "{} {}".format(platform.machine(), directory)


# --- keeping ------------------------------------------------------------------------------------


def main(arguments: List[str]) -> int:
    """Leave the agent that started us, and look until the machine is gone."""
    wish = json.loads(arguments[0])
    home = os.path.expanduser("~")
    path = os.path.join(home, ".colabdev", "editors.lock")
    daemons.leave_starter()
    with suppress(OSError):
        os.nice(_PRIORITY)
    _make_own(home)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 0
    folders = [check_folder(one) for one in wish["folders"]]
    watches = [Watch(os.path.join(home, one), str(wish["drive_dir"])) for one in folders]
    while os.path.exists(path):
        for watch in watches:
            watch.look()
        time.sleep(float(wish.get("look_s", _LOOK_S)))
    return 0


class Watch:
    """One server's folder, over time."""

    def __init__(self, directory: str, drive_dir: str) -> None:
        self._directory = directory
        self._drive_dir = drive_dir
        self._seen = self._kept = ""
        self.problem = ""
        """Why it is not kept."""

    def look(self) -> None:
        """Keep it once it is as it was at the last look, and another than was kept."""
        try:
            paths, state = _survey(self._directory)
        except OSError:
            return  # It changes this very moment.
        if paths and state == self._seen and state != self._kept:
            self._kept = state
            self.problem = self._keep(paths)
        self._seen = state

    def _keep(self, paths: List[str]) -> str:
        folder = os.path.basename(self._directory)
        packed = os.path.join(os.path.dirname(self._directory), ".colabdev", folder + ".zip")
        about = {"project": KIND.word, "stored": now(), "origin": _origin(self._directory)}
        try:
            with open(packed, "w+b") as file:
                summary = archive.write(file, self._directory, paths, [], about)
            stem = _prefix(folder) + summary.tree[:16]
            name = Name(KIND, stem, about["origin"])
            work = partial(_store, packed, name, _prefix(folder), self._drive_dir)
            return str(last_word(Child(work), STALL_S).get("problem") or "")
        except OSError as exc:
            return drive.explain(exc)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(packed)


def _survey(directory: str) -> Tuple[List[str], str]:
    """What is to be kept, and the hash of how it is; nothing of what is too large."""
    digest, total, paths = hashlib.sha256(), 0, sorted(programs_in(directory))
    for path in paths:
        status = os.lstat(os.path.join(directory, path))
        row = [path, status.st_size, status.st_mtime_ns]
        digest.update(json.dumps(row).encode("ascii"))
        total += status.st_size
    return ([] if total > MOST_UNPACKED_BYTES else paths), digest.hexdigest()


def _store(packed: str, name: Name, prefix: str, drive_dir: str, say: Say) -> None:
    """In a process that may hang."""
    try:
        path, level = bundles.put(drive_dir, name, packed, say)
    except StoreError as exc:
        say({"end": True, "problem": str(exc)})
        return
    with suppress(OSError):
        bundles.prune(bundles.folder_in(drive_dir, KIND), KIND, path, prefix=prefix)
    say({"end": True, "path": path, "level": level, "problem": ""})


# --- bringing -----------------------------------------------------------------------------------


def answer_restore(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Bring the newest of each server that is not here, and see that what comes is kept.

    Arguments: `drive_dir`, `folders` (in the home). Answer: `brought`, rows of `folder`, `size_bytes`
    (on Drive) and `took_s`, and `problems`, rows of folder and why.
    """
    drive_dir = str(arguments["drive_dir"])
    folders = [check_folder(one) for one in arguments["folders"]]
    home = os.path.expanduser("~")
    _make_own(home)
    brought, problems = [], []
    for folder in folders:
        directory = os.path.join(home, folder)
        if os.path.lexists(directory):
            continue  # An editor was here before us: what it has is newer.
        begun = time.monotonic()
        told = last_word(Child(partial(_bring, drive_dir, directory)), STALL_S)
        if told["problem"]:
            problems.append([folder, told["problem"]])
        elif told["found"]:
            took_s = time.monotonic() - begun
            brought.append({"folder": folder, "size_bytes": told["size_bytes"], "took_s": took_s})
    daemons.start(["keep-editors", json.dumps(dict(arguments, folders=folders))], os.devnull)
    return {"brought": brought, "problems": problems}, b""


def _bring(drive_dir: str, directory: str, say: Say) -> None:
    """Says at last `{"end", "found", "size_bytes", "problem"}`."""
    try:
        _bring_newest(bundles.folder_in(drive_dir, KIND), directory, say)
    except OSError as exc:
        say({"end": True, "problem": drive.explain(exc)})


def _bring_newest(folder: str, directory: str, say: Say) -> None:
    end: Dict[str, Any] = {"end": True, "found": False, "size_bytes": 0, "problem": ""}
    here = os.path.join(os.path.dirname(directory), ".colabdev", os.path.basename(directory))
    staging, copied = here + ".new", here + ".zip"
    for _, size, path in bundles.newest_first(folder, _prefix(os.path.basename(directory))):
        name = Name(KIND, "", _origin(directory))
        shutil.rmtree(staging, ignore_errors=True)
        try:
            bundles.copy(path, copied, say)
            with open(copied, "rb") as file:
                packed = bundles.open_listed(file, name)
                _check_paths(packed)
                bundles.unpack(packed, staging, say)
        except Broken as exc:
            end.update(found=True, problem=str(exc))
            continue
        finally:
            with suppress(FileNotFoundError):
                os.unlink(copied)
        os.rename(staging, directory)
        with suppress(OSError):
            os.utime(path)
        say({**end, "found": True, "size_bytes": size, "problem": ""})
        return
    shutil.rmtree(staging, ignore_errors=True)
    say(end)


def _check_paths(packed: archive.Archive) -> None:
    """What we would not have kept was put there by somebody else."""
    for entry in packed.entries:
        if not _PROGRAMS.fullmatch(entry.path):
            raise Broken("{} is no part of an editor's server".format(entry.path))
