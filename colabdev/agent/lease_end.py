"""Gives a rented machine back when it is not wanted any more: a daemon of its own, for when no computer
is there to do it.

`python3 -I -S <agent> lease [<timing>]`, one for each machine, which holds `lease.lock`. A
computer that is connected does it better, because it takes home what is here; so it has the first word,
for a while. What must outlive the machine is handed over by a child: a Drive that does not answer hangs
that, and we go on saying so. What is nowhere else keeps the machine, and so does whoever wants it again
before it has gone.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Optional

from . import checkpoint_safety, daemons, handover, jobdir, jobs, lease, machine
from .daemons import Child, agent_name
from .drive import explain
from .foresight import Foresight
from .jobdir import JobFiles
from .lease import HELD, LEAVING, WAITING, LeaseFiles
from .states import describe
from .storing import now


class Timing(NamedTuple):
    """How patient the daemon is, in seconds."""

    tick_s: float = 2.0
    courtesy_s: float = 600.0
    """For so long a computer that is connected may do it instead."""
    proof_s: float = 300.0
    """For so long checkpoints that are not safe are waited for; their carriers go on meanwhile."""
    deadline_s: float = 2400.0
    """A child that takes longer hangs."""
    retry_s: float = 30.0
    longest_retry_s: float = 600.0


def main(arguments: List[str]) -> int:
    """Leave the agent that started us, and go on for as long as there is a lease of our version."""
    machine.take_environment()
    files = LeaseFiles()
    timing = Timing(**json.loads(arguments[0])) if arguments else Timing()
    daemons.leave_starter()
    holder = lambda: _said(files).get("agent")  # noqa: E731
    if daemons.take(files.lock, holder) is not None:
        LeaseEnd(files, timing).run()
    return 0


class LeaseEnd:
    """The daemon."""

    def __init__(self, files: LeaseFiles, timing: Timing) -> None:
        self._files = files
        self._timing = timing
        self._lease: Dict[str, Any] = {}
        self._child: Optional[Child] = None
        self._begun = 0.0
        self._hang = ""
        self._due_since: Optional[float] = None
        self._retry_at = 0.0
        self._retry_s = timing.retry_s
        self._why = ""
        self._problem = ""
        self._told: Dict[str, Any] = {}
        self._foresight = Foresight()

    def run(self) -> None:
        """Until the lease is another version's, or gone, or the machine is."""
        while self._is_needed():
            self._collect()
            self._foresight.look(self._lease)
            self._why = self._find_why()
            if not self._why:
                self._stay()
            elif self._child is None and self._is_time(time.monotonic()):
                self._leave()
            self.say()
            time.sleep(self._timing.tick_s)

    def _stay(self) -> None:
        """It is wanted, perhaps again: nothing of an earlier end counts."""
        self._due_since, self._retry_at = None, 0.0
        self._retry_s = self._timing.retry_s
        with suppress(FileNotFoundError):
            os.unlink(self._files.flushed)
        self._problem = ""
        if self._child:
            self._child.kill()

    def say(self) -> None:
        """Write down how it stands when that changed: `state`, `why` it is not wanted any more, the
        `problem` that keeps it, `since`."""
        state = HELD if self._problem else LEAVING if self._child else WAITING
        told = {
            "schema": lease.SCHEMA,
            "agent": agent_name(),
            "pid": os.getpid(),
            "state": state,
            "why": self._why,
            "problem": self._problem,
        }
        if told != {key: value for key, value in self._told.items() if key != "since"}:
            self._told = dict(told, since=now())
            with suppress(OSError):  # A full disk is said again.
                jobdir.write_document(self._files.state, self._told)

    def _is_needed(self) -> bool:
        found = lease.read(self._files)
        if found is None or found.get("agent") != agent_name():
            return False
        self._lease = found
        return True

    def _find_why(self) -> str:
        """Why the machine is not wanted any more; "" while it is."""
        until = self._lease.get("until")
        if until is not None and time.time() >= float(until):
            return "its ttl is over"
        known = [files for files in map(_files, self._lease.get("after") or []) if files]
        if known and not any(_goes_on(files) for files in _all_jobs()):
            return "{} has ended".format(", ".join(files.id for files in known))
        return ""

    def _is_time(self, moment: float) -> bool:
        if self._due_since is None:
            self._due_since = moment
        if moment < self._retry_at:
            return False
        is_patient = moment - self._due_since < self._timing.courtesy_s
        return not (is_patient and daemons.is_held(self._files.served))

    def _leave(self) -> None:
        wanted, why, proof_s = self._lease, self._why, self._timing.proof_s
        self._begun, self._hang = time.monotonic(), ""
        self._child = Child(lambda: {"problem": handover.leave(wanted, why, proof_s)}, explain)

    def _collect(self) -> None:
        """Hear why the child could not end the machine, which is still here."""
        if self._child is None:
            return
        if self._child.has_ended():
            otherwise = self._hang or "handing over was interrupted"
            self._problem = str(self._child.result({"problem": otherwise})["problem"])
            self._child = None
            self._retry_at = time.monotonic() + self._retry_s
            self._retry_s = min(self._retry_s * 2, self._timing.longest_retry_s)
        elif not self._hang and time.monotonic() - self._begun >= self._timing.deadline_s:
            # A dead mount may hold it beyond that: then nothing more is begun.
            self._child.kill()
            self._hang = "; ".join(["Drive does not answer", *checkpoint_safety.risks()])
            self._problem = self._hang


def _said(files: LeaseFiles) -> Dict[str, Any]:
    try:
        return jobdir.read_document(files.state) or {}
    except (OSError, jobdir.Unreadable):
        return {}


def _all_jobs() -> List[JobFiles]:
    names = os.listdir(jobs.root()) if os.path.isdir(jobs.root()) else []
    return [found for found in map(_files, sorted(names)) if found]


def _files(job_id: str) -> Optional[JobFiles]:
    """The job's, if there is one."""
    if not jobdir.is_job_id(job_id):
        return None
    files = JobFiles(os.path.join(jobs.root(), job_id))
    return files if os.path.exists(files.spec) else None


def _goes_on(files: JobFiles) -> bool:
    """Also when nobody can say so: what could not be read is not finished."""
    try:
        return describe(files)["state"] not in jobdir.ENDED_STATES
    except (OSError, jobdir.Unreadable):
        return True
