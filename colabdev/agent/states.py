"""How a job of this machine stands, by what its directory and its processes say."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import Any, Dict, Optional

from . import frozen, jobdir, processes, steps
from .jobdir import JobFiles

_NEVER_STARTED_S = 60.0


def describe(files: JobFiles) -> Dict[str, Any]:
    """The job as everybody is told of it. One that nobody supervises and that has ended ends here."""
    spec = jobdir.read_document(files.spec) or {}
    status = jobdir.read_document(files.status)
    pid = jobdir.read_document(files.pid)
    if status is None and not _goes_on(files, pid):
        status = _settle(files, spec, pid)
    told = {
        "id": files.id,
        "name": spec.get("name"),
        "argv": spec.get("typed"),
        "kind": spec.get("kind"),
        "runtime": spec.get("runtime"),
        "workdir": spec.get("workdir"),
        "created": spec.get("created"),
        "attempt": spec.get("attempt", jobdir.FIRST_ATTEMPT),
        "state": pid.get("state", jobdir.RUNNING) if pid else jobdir.STARTING,
        "exit_code": None,
        "signal": None,
        "started": pid["started"] if pid else None,
        "ended": None,
        "log_bytes": jobdir.size_of(files.log),
        "pty": bool(spec.get("pty")),
        "stdin": spec.get("stdin", jobdir.NO_INPUT),
        "reason": None,
        "metrics": None if status else steps.last_row(files.metrics),
        "progress": None if status else steps.told(files),
    }
    told.update(status or {})
    return told


def _goes_on(files: JobFiles, pid: Optional[Dict[str, Any]]) -> bool:
    """Somebody will still write a status, or the command runs on without a supervisor."""
    if pid is None:
        return time.time() - os.stat(files.spec).st_mtime < _NEVER_STARTED_S
    boot = pid["boot_id"]
    return processes.is_alive(pid["supervisor"], boot) or processes.is_alive(pid["command"], boot)


def _settle(
    files: JobFiles, spec: Dict[str, Any], pid: Optional[Dict[str, Any]]
) -> Optional[Dict[str, Any]]:
    """Write the status of a job that has ended while nobody saw how; None when somebody did."""
    lock = os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None  # It is supervised after all, or somebody else settles it.
        # Only now: a supervisor writes the status before it lets go of the lock.
        status = jobdir.read_document(files.status)
        if status is None:
            with suppress(OSError, jobdir.Unreadable):
                frozen.bring_back(str(spec["workdir"]), files)
            status = {
                "schema": jobdir.SCHEMA,
                "attempt": spec.get("attempt", jobdir.FIRST_ATTEMPT),
                "state": jobdir.UNKNOWN,
                "started": pid["started"] if pid else None,
                "log_bytes": jobdir.size_of(files.log),
            }
            jobdir.write_document(files.status, status, durable=True)
        return status
    finally:
        os.close(lock)
