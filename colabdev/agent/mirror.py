"""Keeps the project of a work dir on Drive: a daemon of its own, whoever else comes and goes.

`python3 -I -S <agent> mirror <workdir> [<timing>]`. One for each work dir, which holds
`.colabdev/mirror.lock`; it ends when the work dir is gone or an agent of another version asks for
something. It looks at the files now and then, and stores a tree that Drive does not have yet once it has
been left alone for a while, or has waited for long, or at once when `ask.json` says so. Storing is a
child's work: a Drive that does not answer hangs the child, and we go on saying so.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Optional

from . import daemons, jobdir, shelf, tree
from .daemons import Child, agent_name
from .drive import Stored, explain
from .mirror_files import MAX_FILE_BYTES, Place, read, read_state
from .storing import now, store
from .workdir import View, WorkDir

SCHEMA = 1

CURRENT = "current"
"""Drive was handed what is there now."""
WAITING = "waiting"
"""Something changed, and goes to Drive once it has settled."""
STORING = "storing"
FAILED = "failed"

_LOCK_WAIT_S = 60.0
_LONGEST_LOOK_S = 60.0
_LONGEST_RETRY_S = 600.0
_IDLE_SHARE = 0.003
_BUSY_SHARE = 0.02


class Timing(NamedTuple):
    """How patient the daemon is, in seconds."""

    tick_s: float = 0.5
    look_s: float = 5.0
    """Between two looks at the files, at least; large trees are looked at less often."""
    settle_s: float = 20.0
    limit_s: float = 200.0
    """So long after the first change it is stored even while changes go on."""
    retry_s: float = 30.0
    """After a failure; doubled by each further one."""


class Look(NamedTuple):
    """The files of the project as they were a moment ago."""

    tree: str
    paths: List[str]
    left_out: List[tree.Problem]


class Watcher:
    """Looks at the files of a work dir by the project's own rules; hashes only what changed."""

    def __init__(self, workdir: str) -> None:
        self._path = workdir
        self._read()

    def look(self) -> Look:
        """What there is now, large files aside."""
        if not (self._workdir.ledger.is_current() and self._rules_time == self._time_of_rules()):
            self._read()
        survey = self._workdir.survey(self._view)
        paths = [*survey.unchanged, *(entry.path for entry in survey.entries)]
        return Look(survey.tree, paths, survey.problems)

    def _read(self) -> None:
        self._rules_time = self._time_of_rules()
        self._workdir = WorkDir(self._path)
        # Before the first sync has told its rules, what it put there is all that is known.
        self._view = View(self._workdir.ledger.rules(None), tree.Limits(MAX_FILE_BYTES))

    def _time_of_rules(self) -> int:
        try:
            return os.stat(Place(self._path).rules).st_mtime_ns
        except FileNotFoundError:
            return 0


def main(arguments: List[str]) -> int:
    """Leave the agent that started us, and go on until nobody needs us."""
    place = Place(arguments[0])
    timing = Timing(**json.loads(arguments[1])) if arguments[1:] else Timing()
    daemons.leave_starter()
    lock = daemons.take(place.lock, lambda: (read_state(place) or {}).get("agent"))
    if lock is not None:
        Mirror(place, timing, lock).run()
    return 0


class Mirror:
    """The daemon."""

    def __init__(self, place: Place, timing: Timing, lock: int) -> None:
        self._place = place
        self._timing = timing
        self._lock = lock
        self._watcher: Optional[Watcher] = None
        self._seen: Optional[Look] = None
        self._look_at = 0.0
        self._changed_first = 0.0
        self._changed_last = 0.0
        self._asked = 0
        self._answered = 0
        self._drive_dir = ""
        self._child: Optional[Child] = None
        self._child_asked = 0
        self._problem = ""
        self._retry_at = 0.0
        self._retry_s = timing.retry_s
        told = read_state(place) or {}
        self._stored = _stored_from(told.get("stored"))
        # Of an earlier daemon, and maybe of another Drive: what it says is proved before it counts.
        self._stored_tree = ""
        self._said: Dict[str, Any] = {}

    def run(self) -> None:
        """Until the work dir, or the need for this version, is gone."""
        while self._is_needed():
            begun = time.monotonic()
            self._collect()
            if self._asked != self._answered or begun >= self._look_at:
                self._look(begun)
            if self._child is None and self._is_due(time.monotonic()):
                self._begin()
            self.say()
            time.sleep(self._timing.tick_s)

    def say(self) -> None:
        """Write down how it stands, when that changed: `state`, `tree` (what is there), `stored` (the
        archive that Drive was handed last), `problem`, `since`, `answered` (the number of the ask that
        this is the answer to)."""
        told = {
            "schema": SCHEMA,
            "agent": agent_name(),
            "pid": os.getpid(),
            "state": self._state(),
            "tree": self._seen.tree if self._seen else "",
            "stored_tree": self._stored_tree,
            "stored": list(self._stored) if self._stored else None,
            "problem": self._problem,
            "answered": self._answered,
        }
        if told == {key: value for key, value in self._said.items() if key != "since"}:
            return
        if told["state"] != self._said.get("state"):
            since: Any = now()
        else:
            since = self._said["since"]
        self._said = dict(told, since=since)
        # On a full disk the next change is said again.
        with suppress(OSError):
            jobdir.write_document(self._place.state, self._said)

    def _state(self) -> str:
        if self._child is not None:
            return STORING
        if self._problem:
            return FAILED
        if self._seen is not None and self._seen.paths and self._seen.tree != self._stored_tree:
            return WAITING
        return CURRENT

    def _is_needed(self) -> bool:
        """The work dir is still the one we started in, and nobody of another version asks."""
        try:
            ours, there = os.fstat(self._lock), os.stat(self._place.lock)
        except OSError:
            return False
        if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
            return False
        asked = read(self._place.ask)
        if asked is None:
            return True
        if asked.get("agent") != agent_name():
            return False
        self._asked = int(asked.get("number", 0))
        if asked.get("drive_dir") != self._drive_dir:
            self._drive_dir, self._stored_tree = str(asked.get("drive_dir")), ""
        return True

    def _look(self, begun: float) -> None:
        try:
            if self._watcher is None:
                self._watcher = Watcher(self._place.workdir)
            seen = self._watcher.look()
        except OSError as exc:
            self._problem = "cannot look at the files: {}".format(exc.strerror or exc)
            self._answered = self._asked
            self._look_at = begun + self._timing.look_s
            return
        ended = time.monotonic()
        if self._seen is None or seen.tree != self._seen.tree:
            self._changed_last = ended
            if not self._is_dirty():
                self._changed_first = ended
        self._seen = seen
        share = _BUSY_SHARE if self._is_dirty() else _IDLE_SHARE
        pause_s = max(self._timing.look_s, (ended - begun) / share)
        self._look_at = ended + min(pause_s, max(_LONGEST_LOOK_S, self._timing.look_s))
        if not self._is_dirty() and self._child is None:
            self._problem = ""
            self._answered = self._asked

    def _is_dirty(self) -> bool:
        """A project without a file is not stored: an archive of nothing would be the newest."""
        seen = self._seen
        return seen is not None and bool(seen.paths) and seen.tree != self._stored_tree

    def _is_due(self, now: float) -> bool:
        if not self._is_dirty() or not self._drive_dir:
            return False
        if self._asked != self._answered:
            return True
        if now < self._retry_at:
            return False
        if now - self._changed_first >= self._timing.limit_s:
            return True
        # A journal says that a sync is at work, or was killed: half of it is no tree to keep.
        settled = now - self._changed_last >= self._timing.settle_s
        return settled and not os.path.exists(self._place.journal)

    def _begin(self) -> None:
        assert self._seen is not None, "it is due"
        known = self._stored
        seen, drive_dir = self._seen, self._drive_dir
        self._child_asked = self._asked
        self._child = Child(lambda: _store(self._place, drive_dir, seen, known), explain)

    def _collect(self) -> None:
        child = self._child
        if child is None or not child.has_ended():
            return
        self._child = None
        told = child.result({"problem": "storing was interrupted"})
        if "stored" in told:
            self._stored = _stored_from(told["stored"])
            self._stored_tree = str(told["tree"])
            self._problem, self._retry_s = "", self._timing.retry_s
            self._changed_first = time.monotonic()
        else:
            self._problem = str(told["problem"])
            self._retry_at = time.monotonic() + self._retry_s
            self._retry_s = min(self._retry_s * 2, max(_LONGEST_RETRY_S, self._timing.retry_s))
        self._answered = self._child_asked
        self._look_at = 0.0


def _store(place: Place, drive_dir: str, seen: Look, known: Optional[Stored]) -> Dict[str, Any]:
    """See that Drive has the files as they are now."""
    folder = shelf.code_folder(drive_dir, os.path.basename(place.workdir))
    there = shelf.find_whole(folder, seen.tree, known)
    if there is not None:
        return {"stored": list(there), "tree": seen.tree}
    tree_hash, there = store(place, folder, seen.paths, seen.left_out, known)
    return {"stored": list(there), "tree": tree_hash}


def _stored_from(row: Any) -> Optional[Stored]:
    return Stored(str(row[0]), int(row[1]), str(row[2])) if isinstance(row, list) else None
