"""Keeps the environment of a job on Drive, so that the next machine need not make it: a daemon.

`python3 -I -S <agent> keep <job directory>`, started with the job. It waits until the job has
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
from typing import Any, Dict, List

from . import bundles, daemons, environment_archives, environments, jobdir
from .child import Child, Say
from .jobdir import JobFiles
from .states import describe
from .stores import StoreError
from .warm_start import KEPT, last_word

WORTH_S = 1.0
"""What is made faster is not worth a place on Drive."""
_PRIORITY = 19
_POLL_S = 0.5
_STALL_S = 300.0


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


def _store(packed: str, directory: str, drive_dir: str, say: Say) -> None:
    """In a process that may hang; says at last `{"end", "path", "level", "problem"}`."""
    kind = environment_archives.KIND
    try:
        path, level = bundles.put(drive_dir, environment_archives.name_of(directory), packed, say)
    except StoreError as exc:
        say({"end": True, "problem": str(exc)})
        return
    with suppress(OSError):
        bundles.prune(bundles.folder_in(drive_dir, kind), kind, path)
    say({"end": True, "path": path, "level": level, "problem": ""})
