"""Drive's mount on a Colab VM: looked at without hanging in it, and mended.

Runs in the agent, which looks, and as text in the VM's kernel, which alone can mount. A call into a
mount that hangs cannot be ended from inside, so whatever touches it is a child's work.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any, Dict, Tuple

PLACE = "/content/drive"
INSIDE = PLACE + "/MyDrive"

MOUNTED = "mounted"
ABSENT = "absent"
DEAD = "dead"
"""It is mounted still, and whoever served it has gone."""
HUNG = "hung"
"""It is mounted, and does not answer."""

LOOK_TIMEOUT_S = 10.0
_KILL_TIMEOUT_S = 1.0
_FORCE, _DETACH = 1, 2
_LIST = "import os, sys; os.listdir(sys.argv[1])"
_MOUNT_TIMEOUT_MS = 180000
_FLUSHED = "/run/colabdev-drive-flushed"
"""Drive was emptied of what waited, and is not mounted because of that."""


def look(place: str = PLACE, inside: str = INSIDE, timeout_s: float = LOOK_TIMEOUT_S) -> str:
    """How the mount at `place` is: MOUNTED, ABSENT, DEAD or HUNG."""
    if not is_mount_point(place):
        return ABSENT
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _LIST, inside],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return DEAD if child.wait(timeout_s) else MOUNTED
    except subprocess.TimeoutExpired:
        child.kill()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_KILL_TIMEOUT_S)  # What hangs in a system call may not even die.
        return HUNG


def is_mount_point(place: str) -> bool:
    """By the kernel's own list: what is asked of the mount itself may never return."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        return any(line.split(" ")[1] == place for line in mounts)


def answer_look(arguments: Dict[str, Any], body: bytes) -> Tuple[Dict[str, Any], bytes]:
    """The agent's `drive.look`."""
    return {"state": look()}, b""


def mend() -> Dict[str, str]:
    """Mount Drive where it is not, or is of no use; in the kernel. Done twice it is done once.

    `was` and `now` are how it was and is; `aside` is the folder that keeps what was written in Drive's
    place while that was away, "" when nothing was. What of it Drive does not have was copied there.
    """
    was = look()
    if was == MOUNTED:
        return {"was": was, "now": was, "aside": ""}
    if os.path.exists(_FLUSHED):
        os.unlink(_FLUSHED)
    if was != ABSENT:
        unmount(PLACE)
    aside = set_aside(PLACE)
    drive = importlib.import_module("google.colab.drive")
    try:
        # Forced, because a mount that is of no use may have left its process behind.
        drive.mount(PLACE, force_remount=was != ABSENT, timeout_ms=_MOUNT_TIMEOUT_MS)
        now = look()
        if now != MOUNTED:
            raise OSError("it was mounted, and " + INSIDE + " cannot be listed all the same")
    except BaseException:
        if aside and not is_mount_point(PLACE):
            os.rename(aside, PLACE)
        raise
    if aside:
        copy_missing(aside, PLACE)
    return {"was": was, "now": now, "aside": aside}


def flush(timeout_s: float) -> bool:
    """Have Drive take all that waits here, and unmount it; in the kernel. What waits for a mount that is
    gone is taken, too. Done twice it is done once."""
    if not is_mount_point(PLACE) and os.path.exists(_FLUSHED):
        return True
    mend()
    drive = importlib.import_module("google.colab.drive")
    drive.flush_and_unmount(timeout_ms=int(timeout_s * 1000))
    with open(_FLUSHED, "w", encoding="ascii"):
        return True


def unmount(place: str) -> None:
    """By force: who waits for an answer of it gets an error. It may be mounted more than once."""
    # Loaded when it is needed: each agent that starts would wait for it.
    libc = importlib.import_module("ctypes").CDLL(None)
    for flags in (_FORCE, _DETACH):
        libc.umount2(os.fsencode(place), flags)


def set_aside(place: str) -> str:
    """Move what lies where Drive is to be mounted, which must be empty, and return where to; "" when
    there is nothing."""
    try:
        if not os.listdir(place):
            return ""
    except FileNotFoundError:
        return ""
    aside = "{}-{}".format(place, time.strftime("%Y%m%d-%H%M%S"))
    os.rename(place, aside)
    return aside


def copy_missing(source: str, target: str) -> None:
    """Copy the files below one folder that are not below the other. None is removed: somebody may be
    writing it."""
    for folder, _, names in os.walk(source):
        below = os.path.normpath(os.path.join(target, os.path.relpath(folder, source)))
        for name in names:
            path, new = os.path.join(folder, name), os.path.join(below, name)
            if os.path.lexists(new) or os.path.islink(path) or not os.path.isfile(path):
                continue
            os.makedirs(below, exist_ok=True)
            shutil.copyfile(path, new)
