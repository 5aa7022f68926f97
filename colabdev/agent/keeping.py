"""Keeps the environment of a job on Drive, so that the next machine need not make it: a daemon.

`python3 -I -S <agent archive> keep <job directory>`, started with the job. It waits until the job has
its environment, packs it, has a child store it with the store's own proof that it arrived, and writes
down in `<environment>/kept.json` what came of it: `path` on Drive, `level`, `problem`. What is there
already, or takes no time to make, is left alone. The job comes first: this has the lowest priority.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Dict, List, Optional, Tuple

from . import daemons, environment_archives, environments, jobdir, manifest, taking
from .archive import Broken
from .child import Child, Say
from .jobdir import JobFiles
from .opening import open_named
from .states import describe
from .store_folder import mounted_below
from .stores import PROVED, SILENT, Receipt, Store, StoreError
from .transfer import Patience, await_proof
from .warm_start import KEPT, last_word

WORTH_S = 1.0
"""What is made faster is not worth a place on Drive."""
_PRIORITY = 19
_POLL_S = 0.5
_STALL_S = 300.0
_MOST_NAMES = 20


def main(arguments: List[str]) -> int:
    """Leave the agent that started us, and end when the environment is kept, or cannot be."""
    files = JobFiles(arguments[0])
    daemons.leave_starter()
    with suppress(OSError):
        os.nice(_PRIORITY)
    spec = jobdir.read_document(files.spec) or {}
    wish = spec.get("environment") or {}
    directory = _wait_for_environment(files)
    if directory and wish.get("drive_dir"):
        keep(directory, str(wish["drive_dir"]), float(wish.get("worth_s", WORTH_S)))
    return 0


def _wait_for_environment(files: JobFiles) -> str:
    """The directory of the environment that the job runs in; "" when it has none."""
    while True:
        has_ended = describe(files)["state"] in jobdir.ENDED_STATES
        found = jobdir.read_document(files.environment)
        if found is not None:
            return str(found["directory"])
        if has_ended:
            return ""
        time.sleep(_POLL_S)


def keep(directory: str, drive_dir: str, worth_s: float) -> None:
    """See that Drive has the environment, unless somebody else is at it."""
    with ExitStack() as stack:
        stack.enter_context(suppress(OSError))  # Somebody is at it, or the disk is full.
        alone = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, alone)
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        in_use = environments.locked(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
        stack.callback(os.close, in_use)
        if _is_worth_it(directory, worth_s):
            kept = {"schema": environments.SCHEMA, "path": "", "level": "", "problem": ""}
            kept.update(_keep(directory, drive_dir))
            jobdir.write_document(os.path.join(directory, KEPT), kept)


def _is_worth_it(directory: str, worth_s: float) -> bool:
    try:
        kept = jobdir.read_document(os.path.join(directory, KEPT)) or {}
        whole = jobdir.read_document(os.path.join(directory, environments.WHOLE)) or {}
    except jobdir.Unreadable:
        return False  # Of an older version.
    return not kept.get("path") and float(whole.get("cold_s") or 0.0) >= worth_s


def _keep(directory: str, drive_dir: str) -> Dict[str, Any]:
    """What came of it; see KEPT."""
    packed = os.path.join(os.path.dirname(directory), ".keeping-" + os.path.basename(directory))
    try:
        # On the machine's own disk first: Drive gets it in one piece.
        with open(packed, "w+b") as file:
            environment_archives.pack(directory, file)
        told = last_word(Child(partial(_store, packed, directory, drive_dir)), _STALL_S)
    except (environment_archives.CannotKeep, OSError) as exc:
        return {"problem": str(exc)}
    finally:
        with suppress(FileNotFoundError):
            os.unlink(packed)
    return {key: told[key] for key in ("path", "level", "problem") if key in told}


# --- in the process that may hang ---------------------------------------------------------------


def _store(packed: str, directory: str, drive_dir: str, say: Say) -> None:
    """Says at last `{"end", "path", "level", "problem"}`."""
    is_drive = mounted_below(os.path.realpath(drive_dir)).startswith("fuse")
    store = open_named(manifest.DRIVEFS if is_drive else manifest.DISK, drive_dir, "")
    folder = environment_archives.folder_in(drive_dir)
    try:
        path, level = _bring_there(store, folder, packed, os.path.basename(directory), say)
    except StoreError as exc:
        say({"end": True, "problem": str(exc)})
        return
    with suppress(OSError):
        environment_archives.prune(folder, path)
    say({"end": True, "path": path, "level": level, "problem": ""})


def _bring_there(store: Store, folder: str, packed: str, key: str, say: Say) -> Tuple[str, str]:
    """Where it is on Drive then, and its level."""
    begun = time.monotonic()
    path = _find(folder, key, say)
    if path is not None:
        entry = manifest.digests(path, _beat(say))
        receipt: Receipt = {"path": _below_root(path)}
    else:
        path = _free_name(folder, key)
        entry = manifest.digests(packed, _beat(say))
        free = store.free_bytes()
        if free is not None and free < entry.size + taking.RESERVE_BYTES:
            raise StoreError("there is no room for it on Drive")
        receipt = store.put(_below_root(path), packed, entry, _beat(say))
    state = await_proof(store, [(receipt, entry)], Patience(), time.monotonic() - begun, say)
    if state == SILENT:
        return path, manifest.ACCEPTED
    return path, manifest.CONFIRMED if state == PROVED else manifest.PUBLISHED


def _find(folder: str, key: str, say: Say) -> Optional[str]:
    """What another machine has stored meanwhile, if it is whole."""
    for path in environment_archives.stored(folder, key):
        with suppress(Broken, FileNotFoundError), open(path, "rb") as file:
            packed = environment_archives.open_listed(file, key)
            for entry in packed.entries:
                say({"reading": entry.path})
                for _ in packed.content(entry):
                    pass
            return path
    return None


def _free_name(folder: str, key: str) -> str:
    taken = {os.path.basename(path) for path in environment_archives.stored(folder, key)}
    for number in range(1, _MOST_NAMES):
        name = key + ("" if number == 1 else "-{}".format(number)) + environment_archives.SUFFIX
        if name not in taken:
            return os.path.join(folder, name)
    raise StoreError("it was begun too often")


def _below_root(path: str) -> str:
    return "{}/{}".format(environment_archives.FOLDER, os.path.basename(path))


def _beat(say: Say) -> Any:
    return lambda done: say({"done": done})
