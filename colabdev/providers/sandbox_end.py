"""Ending a sandbox: gently, as `down` does, or as Colab ends a VM; its whole directory with it."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from colabdev.crash_points import crash_point
from colabdev.errors import ReleaseUnproven
from colabdev.providers.processes import carries_marker, end_family, find_family, freeze_family
from colabdev.providers.sandbox_files import (
    SandboxFiles,
    delete,
    is_lock_file,
    is_locked,
    open_lock,
    read_guardian_pid,
    take_lock,
    wipe,
)

_RELEASE_TIMEOUT_S = 10.0
_KILL_TIMEOUT_S = 5.0
_LOCK_TIMEOUT_S = 2.0
_POLL_S = 0.02


def release(files: SandboxFiles) -> None:
    """Ask the sandbox to end, kill what does not, and delete its directory. `ReleaseUnproven` when
    something does not die."""
    _end_or_complain(files, _end_guardian(files), spare={os.getpid()})
    if files.directory.is_dir():
        _delete_directory(files)


def kill(files: SandboxFiles) -> None:
    """The same without a word to anything in it.

    Everything is frozen first, so that nothing can flee by forking. The guardian dies last: while it
    stands, whatever left its parents is still its descendant, also for a second `kill` after this one
    was killed.
    """
    with contextlib.suppress(FileNotFoundError):  # Somebody else is deleting it.
        files.ending.touch(mode=0o600)
    crash_point("kill.marked")
    guardian = _guardian(files)
    me = os.getpid()
    freeze_family(
        lambda: find_family(files.marker, guardian, spare={me}), timeout_s=_KILL_TIMEOUT_S
    )
    crash_point("kill.frozen")
    _end_or_complain(files, guardian, spare={me, *guardian})
    crash_point("kill.emptied")
    _end_or_complain(files, guardian, spare={me})
    crash_point("kill.ended")
    if files.directory.is_dir():
        _delete_directory(files)


def _end_or_complain(files: SandboxFiles, guardian: set[int], *, spare: set[int]) -> None:
    """Kill the sandbox's processes except those in `spare`, and those that come meanwhile."""
    left = end_family(
        lambda: find_family(files.marker, guardian, spare=spare), timeout_s=_KILL_TIMEOUT_S
    )
    if left:
        raise ReleaseUnproven(
            f"cannot end sandbox {files.name}: processes {sorted(left)} do not die",
            hint=f"end them, then: colabdev down {files.name}",
        )


def _guardian(files: SandboxFiles) -> set[int]:
    """The running guardian; nothing when none runs, or one that is just starting: that one is found
    by its marker."""
    pid = read_guardian_pid(files) if is_locked(files) else None
    return set() if pid is None or not _is_guardian(pid, files) else {pid}


def _end_guardian(files: SandboxFiles) -> set[int]:
    """Ask the guardian to end its sandbox; returns it when it has not done so in time."""
    guardian = _guardian(files)
    if not guardian:
        return set()
    files.ending.touch(mode=0o600)
    for pid in guardian:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _RELEASE_TIMEOUT_S
    while is_locked(files) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return guardian if is_locked(files) and guardian == _guardian(files) else set()


def _is_guardian(pid: int, files: SandboxFiles) -> bool:
    """Whether `pid`, read from a lock that is held, is really its holder: between taking the lock
    and writing itself into it a guardian stands there under its predecessor's number. Without
    /proc there is no telling, and the lock is trusted."""
    return carries_marker(pid, files.marker) or not os.path.isdir("/proc/self")


def _delete_directory(files: SandboxFiles) -> None:
    """Delete the whole directory under the lock: nobody can start a sandbox in it meanwhile."""
    try:
        lock = open_lock(files)
    except FileNotFoundError:
        # Another release was faster.
        return
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not take_lock(lock):
            # Somebody may be looking whether it is held.
            if time.monotonic() < deadline:
                time.sleep(_POLL_S)
                continue
            raise ReleaseUnproven(
                f"cannot delete sandbox {files.name}: another process holds {files.lock}",
                hint=f"colabdev down {files.name}",
            )
        if not is_lock_file(files, lock):
            # Another release was faster, and what stands there now may be a new sandbox.
            return
        wipe(files)
        for last in (files.log, files.lock):
            delete(last)
        files.directory.rmdir()
    except OSError as exc:
        raise ReleaseUnproven(
            f"cannot delete the disk of sandbox {files.name}: {exc}",
            hint=f"remove {files.directory} by hand, then: colabdev down {files.name}",
        ) from exc
    finally:
        os.close(lock)
