"""Carries the checkpoints of one job off its runtime: a process of its own, never in the trainer's way.

`python3 -I -S <agent> carry <job directory>`. It holds `checkpoints/lock`, looks for
what the trainer has written whole, holds that on the disk, and has the lane of each store bring the
newest of it there. It touches no store itself, so none can hang it. It ends when the job has ended and
nothing is left to bring.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import signal
import time
from contextlib import suppress
from functools import partial
from typing import Any, Dict, Iterator, List, Optional, Union

from . import (
    carriers,
    credentials,
    finding,
    jobdir,
    leftovers,
    log_segments,
    manifest,
    retention,
    stopping,
    taking,
)
from .carrier_files import CarrierFiles, Run, run_of
from .child import Child
from .claims import FOUND, ON_DISK, REMOVED, Checkpoint, Journal
from .finding import Candidate, Finder
from .jobdir import JobFiles
from .lane import Lane, Timing
from .log_lane import LogLane
from .log_segments import LogTransfer
from .opening import open_named, open_store
from .states import describe
from .store_folder import mounted_below

SCHEMA = 1

WATCHING = "watching"
CARRYING = "carrying"
ENDED = "ended"

_LOOK_SHARE = 0.01
_LONGEST_LOOK_S = 30.0
_STATE_S = 5.0
_ROOM_BYTES = 1024**3


def main(arguments: List[str]) -> int:
    """Go on until nobody needs us; at once when another one does it already."""
    job = JobFiles(arguments[0])
    run = run_of(job)
    if run is None:
        return 0
    timing = Timing(**run.timing)
    files = CarrierFiles(job, run.workdir)
    os.makedirs(files.directory, mode=0o700, exist_ok=True)
    with suppress(OSError):
        os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = os.open(files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 0
    Carrier(run, files, timing).run()
    if carriers.is_last(files):
        credentials.forget()
    return 0


class Carrier:
    """Everything that one job's checkpoints need."""

    def __init__(self, run: Run, files: CarrierFiles, timing: Timing) -> None:
        self._run = run
        self._files = files
        self._timing = timing
        self._journal = Journal(files.journal)
        self._journal.refresh()
        places = [
            os.path.normpath(os.path.join(root, one)) for root in run.roots for one in run.dirs
        ]
        self._finder = Finder([one for one in places if not _is_mount(one)], run.created)
        self._lanes = [
            Lane(open_store(name, run, files), run, files, self._journal, timing)
            for name in run.stores
            if name != manifest.PULL
        ]
        self._log_lanes = list(self._make_log_lanes())
        self._taker: Optional[Child] = None
        self._taking: Optional[Candidate] = None
        self._look_at = 0.0
        self._asked: Dict[str, Any] = {}
        self._answered = 0
        self._problem = ""
        # A mount may hang whoever looks into it.
        self._rejected = {
            one: "it is on a mount: save to the disk" for one in places if _is_mount(one)
        }
        self._told: Dict[str, Any] = {}
        self._has_ended = False
        self._ask_at = 0.0
        self._stopper: Optional[Child] = None

    def _make_log_lanes(self) -> Iterator[LogLane]:
        """One to the first of the stores, if there is any."""
        run, files = self._run, self._files
        for lane in self._lanes[:1]:
            # Two that share their notes would spoil them.
            notes = files.drive_api_log
            store = open_named(lane.store.name, run.drive_dir, run.api_url, notes)
            folder = log_segments.folder_of(run.folder, run.attempt)
            transfer = LogTransfer(store, folder, files.job, self._timing.patience)
            yield LogLane(transfer, files.job, self._timing)

    def run(self) -> None:
        """Until the job has ended and all that can be brought is."""
        with suppress(OSError):
            taking.forget_unknown(self._files, self._journal.claims)
        while True:
            if not self._has_ended and self._job_has_ended():
                # What the trainer wrote last is looked for once more.
                self._has_ended, self._look_at = True, 0.0
            try:
                self._step()
                self._problem = ""
            except OSError as exc:
                # A full disk: nothing is claimed that could not be written down, and we try again.
                self._problem = "the runtime's disk fails: {}".format(exc.strerror or exc)
            is_done = self._has_ended and self._is_idle()
            self._say(ENDED if is_done else CARRYING if self._is_busy() else WATCHING)
            if is_done:
                return
            self._wait()

    def _step(self) -> None:
        self._journal.refresh()
        self._hear_ask()
        self._take()
        self._make_room()
        for lane in self._lanes:
            lane.step(self._wanted())
        for log in self._logs():
            log.step(self._has_ended)
        self._stop_if_fenced()

    def _all(self) -> List[Union[Lane, LogLane]]:
        return [*self._lanes, *self._log_lanes]

    def _logs(self) -> List[LogLane]:
        """Those that have anything to do: the store knows the job, and the attempt is ours."""
        first = self._lanes[0] if self._lanes else None
        return self._log_lanes if first and first.has_begun and not first.is_fenced else []

    def _stop_if_fenced(self) -> None:
        """The job goes on elsewhere, and must not do so here."""
        if self._stopper is not None:
            self._stopper.messages()
            if not self._stopper.has_ended():
                return
            self._stopper = None
        if any(lane.is_fenced for lane in self._lanes) and not self._job_has_ended():
            grace_s, reason = jobdir.DEFAULT_GRACE_S, jobdir.SUPERSEDED
            job = self._files.job
            self._stopper = Child(lambda say: stopping.stop(job, grace_s, signal.SIGTERM, reason))

    # --- what the trainer wrote ---

    def _take(self) -> None:
        """Hear what became of the one that is taken, and begin with the next."""
        if self._taker is not None and not self._has_taken(self._taker):
            return
        now = time.monotonic()
        if now < self._look_at:
            return
        is_last = self._is_asked() or self._has_ended
        found = self._finder.look(now, 0.0 if is_last else self._timing.settle_s)
        ready = [one for one in found if not self._is_known(one)]
        ended = time.monotonic()
        pause_s = min((ended - now) / _LOOK_SHARE, _LONGEST_LOOK_S)
        self._look_at = ended + max(pause_s, self._timing.tick_s)
        if ready:
            self._taking = ready[0]
            claims = self._journal.claims
            self._taker = Child(partial(taking.take, ready[0], self._run, self._files, claims))
        elif self._is_asked() and not self._finder.is_pending():
            self._answered = int(self._asked["number"])

    def _has_taken(self, taker: Child) -> bool:
        """Hear what it says; whether it has ended. What failed is tried again a little later."""
        candidate = self._taking
        assert candidate is not None, "somebody takes it"
        taker.messages()
        if not taker.has_ended():
            return False
        last = dict(taker.last)
        self._taker = self._taking = None
        self._look_at = 0.0
        if "found" in last:
            self._journal.write(FOUND, str(last.pop("found")), **last)
        elif "rejected" in last:
            self._rejected = {os.path.basename(candidate.path): str(last["rejected"])}
        elif "known" not in last:
            self._look_at = time.monotonic() + self._timing.retry_s
            problem = str(last.get("problem", "taking it was interrupted"))
            raise OSError(errno.EIO, problem, candidate.path)
        self._finder.done(candidate)
        return True

    def _is_known(self, candidate: Candidate) -> bool:
        """It was taken by one of us before."""
        for one in self._journal.claims.checkpoints.values():
            # One that went from the disk and is nowhere else is taken again.
            if (one.source, one.saved) == (candidate.path, candidate.saved) and one.level:
                self._finder.done(candidate)
                return True
        return False

    # --- what somebody asks for ---

    def _hear_ask(self) -> None:
        try:
            asked = jobdir.read_document(self._files.ask) or {}
        except (OSError, jobdir.Unreadable):
            return
        if asked.get("number", 0) > self._asked.get("number", 0):
            self._asked = asked
            self._look_at = 0.0
            for lane in self._lanes:
                lane.hurry()

    def _is_asked(self) -> bool:
        return int(self._asked.get("number", 0)) > self._answered

    def _wanted(self) -> Optional[str]:
        name = self._asked.get("checkpoint")
        return None if name is None else str(name)

    # --- the runtime's disk ---

    def _make_room(self) -> None:
        """Hold no more than is needed; where room is tight, let the trainer's older ones go, too."""
        claims, run = self._journal.claims, self._run
        newest = claims.newest()
        if newest is None or self._taker is not None:
            return
        is_tight = _is_tight(self._files.held, newest.size_bytes)
        if is_tight:
            leftovers.release(self._files)
        for one in retention.releasable(claims, run.keep, run.accept, is_tight):
            if is_tight:
                self._remove_source(one)
            self._journal.write(REMOVED, one.name, store=ON_DISK)
            shutil.rmtree(self._files.held_at(one.name), ignore_errors=True)

    def _remove_source(self, one: Checkpoint) -> None:
        """Delete the trainer's own, if it is still what was taken and something newer is safe."""
        safe = self._journal.claims.safe(self._run.accept)
        found = finding.look_at(one.source)
        if safe is None or safe.order <= one.order or found is None or found.saved != one.saved:
            return
        if found.kind == manifest.FILE:
            os.unlink(one.source)
        else:
            shutil.rmtree(one.source, ignore_errors=True)

    # --- the loop ---

    def _is_busy(self) -> bool:
        return self._taker is not None or not all(one.is_idle() for one in self._all())

    def _is_idle(self) -> bool:
        """Nothing is under way, and nothing is left to bring or to take."""
        if self._is_busy() or self._is_asked() or self._finder.is_pending():
            return False
        if not all(log.is_done() for log in self._logs()):
            return False
        return not any(lane.has_work(self._wanted()) for lane in self._lanes) and not self._problem

    def _job_has_ended(self) -> bool:
        if os.path.exists(self._files.job.status):
            return True
        if time.monotonic() < self._ask_at:
            return False
        self._ask_at = time.monotonic() + _STATE_S
        with suppress(OSError, jobdir.Unreadable):
            # Its supervisor may have been killed: then nobody writes how it ended.
            return describe(self._files.job)["state"] in jobdir.ENDED_STATES
        return False

    def _wait(self) -> None:
        waking = [lane.fd for lane in self._all()]
        waking.append(self._taker.fd if self._taker else -1)
        with suppress(OSError, ValueError):
            select.select([fd for fd in waking if fd >= 0], [], [], self._timing.tick_s)

    def _say(self, state: str) -> None:
        """How it stands, for those who ask: told.json."""
        told = {
            "schema": SCHEMA,
            "pid": os.getpid(),
            "state": state,
            "answered": self._answered,
            "problem": self._problem,
            "problems": {lane.store.name: lane.problem for lane in self._lanes if lane.problem},
            "rejected": self._rejected,
        }
        if told != self._told:
            with suppress(OSError):
                jobdir.write_document(self._files.told, told)
                self._told = told


def _is_mount(place: str) -> bool:
    return mounted_below(place).startswith("fuse")


def _is_tight(place: str, size_bytes: int) -> bool:
    """The trainer may not have room for its next ones."""
    try:
        seen = os.statvfs(place)
    except OSError:
        return False
    total, free = seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize
    return free < max(3 * size_bytes, min(total // 20, _ROOM_BYTES))
