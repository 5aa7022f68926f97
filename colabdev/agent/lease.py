"""How long a rented machine is wanted, and the requests about that. `lease_end` gives it back.

    ~/.colabdev/lease.json         what is wanted of it
    ~/.colabdev/lease-state.json   what the daemon says: see `lease_end.LeaseEnd.say`
    ~/.colabdev/lease-flushed.json Drive was flushed, and why: then all that is left is to end
    ~/.colabdev/lease.lock         held by the daemon for its whole life
    ~/.colabdev/served             held, shared, by each agent that a computer is connected to

The lease is `{"schema", "agent", "runtime", "until", "limit", "after", "drive_dir", "workdirs"}`:
`until` is a time of this machine's clock, null for no end; `limit` likewise, when whoever rents it out
may take it; `after` are jobs: when all of them have ended, and no other goes on, the machine is not
wanted any more.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import Any, Dict, Iterable, List, Optional, Tuple

from . import daemons, jobdir
from .refusal import Refusal

Answer = Tuple[Dict[str, Any], bytes]

SCHEMA = 1
ADDRESS_VARIABLE = "TBE_RUNTIME_ADDR"
"""Where a Colab VM is told to end itself; see `colab_vm`."""

WAITING = "waiting"
LEAVING = "leaving"
HELD = "held"
"""It is not wanted any more, and stays: something on it is nowhere else."""


class LeaseFiles:
    """The names of the lease's files."""

    def __init__(self) -> None:
        self.folder = os.path.expanduser("~/.colabdev")
        self.lease = os.path.join(self.folder, "lease.json")
        self.state = os.path.join(self.folder, "lease-state.json")
        self.flushed = os.path.join(self.folder, "lease-flushed.json")
        self.lock = os.path.join(self.folder, "lease.lock")
        self.complaints = os.path.join(self.folder, "lease.log")
        self.served = os.path.join(self.folder, "served")


def is_rented() -> bool:
    """Whether this machine can give itself back."""
    return bool(os.environ.get(ADDRESS_VARIABLE))


def show_presence() -> None:
    """As an agent on a rented machine: a computer is connected to it for as long as we live."""
    if is_rented():
        with suppress(OSError):
            handle = os.open(LeaseFiles().served, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)


def revive() -> None:
    """As an agent: see that the daemon is at the lease of our version, which may have been killed."""
    files = LeaseFiles()
    is_ours = is_rented() and _document(files.lease).get("agent") == daemons.agent_name()
    if is_ours and not daemons.is_held(files.lock):
        with suppress(OSError):  # On a full disk the agent is needed all the more.
            daemons.start(["lease"], files.complaints)


def answer_keep(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Somebody connected: the machine is wanted for `for_s` more seconds (null: no end), and until jobs
    that go on have ended that it was to end with; in `limit_s` it is expected to go by itself (null:
    nobody knows). Also `runtime`, `drive_dir`, `workdirs`."""
    known = _read()
    lease = {
        "until": _moment(arguments.get("for_s")),
        "limit": _moment(arguments.get("limit_s")),
        "after": [job for job in known["after"] if not _has_ended(job)],
        "runtime": arguments.get("runtime"),
        "drive_dir": arguments.get("drive_dir"),
        "workdirs": _joined(known["workdirs"], arguments.get("workdirs") or []),
    }
    _write(lease)
    return {"lease": lease}, b""


def answer_status(arguments: Dict[str, Any], body: bytes) -> Answer:
    """`state`, `why` and `problem` as the daemon says them, `until` and `after` as they were asked for;
    nulls where nobody asked for anything."""
    files = LeaseFiles()
    lease, told = _read(), _document(files.state)
    runs = daemons.is_held(files.lock)
    return {
        "state": told.get("state") if runs else None,
        "why": told.get("why"),
        "problem": told.get("problem"),
        "until": lease["until"],
        "after": lease["after"],
    }, b""


def end_with(job_id: str, wish: Dict[str, Any]) -> None:
    """The machine is to go when that job, which is about to start, has ended; `wish` has `runtime`,
    `drive_dir` and `workdirs`. A Refusal where machines cannot go by themselves."""
    if not is_rented():
        raise Refusal("this machine cannot give itself back", "leave --down out")
    known = _read()
    _write(
        {
            "until": known["until"],
            "limit": known["limit"],
            "after": _joined(known["after"], [job_id]),
            "runtime": wish.get("runtime"),
            "drive_dir": wish.get("drive_dir"),
            "workdirs": _joined(known["workdirs"], wish.get("workdirs") or []),
        }
    )


def forget(job_id: str) -> None:
    """That job was not started after all."""
    known = _read()
    if job_id in known["after"]:
        _write(dict(known, after=[other for other in known["after"] if other != job_id]))


def note_flushed(why: str) -> None:
    """Drive was flushed and unmounted, and there is nothing more to hand over."""
    jobdir.write_document(LeaseFiles().flushed, {"schema": SCHEMA, "why": why})


def was_flushed(why: str) -> bool:
    """Whether that was for the same end: whoever wanted the machine since may have left more on it."""
    return _document(LeaseFiles().flushed).get("why") == why


def read(files: LeaseFiles) -> Optional[Dict[str, Any]]:
    """The lease; None when there is none that can be read."""
    return _document(files.lease) or None


def _has_ended(job_id: str) -> bool:
    files = jobdir.JobFiles(
        os.path.join(jobdir.jobs_directory(os.path.expanduser("~")), str(job_id))
    )
    return os.path.exists(files.status) or not os.path.exists(files.spec)


def _moment(seconds: Optional[float]) -> Optional[float]:
    return None if seconds is None else time.time() + float(seconds)


def _read() -> Dict[str, Any]:
    empty: Dict[str, Any] = {"until": None, "limit": None, "after": [], "workdirs": []}
    return {**empty, **_document(LeaseFiles().lease)}


def _write(lease: Dict[str, Any]) -> None:
    """Write it down, and see that the daemon of this version is at it."""
    files = LeaseFiles()
    os.makedirs(files.folder, mode=0o700, exist_ok=True)
    ours = {**lease, "schema": SCHEMA, "agent": daemons.agent_name()}
    jobdir.write_document(files.lease, ours)
    if not is_rented():
        return
    if daemons.is_held(files.lock) and _document(files.state).get("agent") == ours["agent"]:
        return
    daemons.start(["lease"], files.complaints)


def _document(path: str) -> Dict[str, Any]:
    try:
        return jobdir.read_document(path) or {}
    except (OSError, jobdir.Unreadable):
        return {}


def _joined(known: Iterable[Any], more: Iterable[Any]) -> List[str]:
    return list(dict.fromkeys([*map(str, known), *map(str, more)]))
