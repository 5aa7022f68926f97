"""What is claimed of a job's checkpoints: a journal on the runtime's disk, and what it amounts to.

Each event is one line, written and fsynced before anybody acts on it or hears of it, so after a kill at
any moment nothing is claimed that was not proved, and everything that may lie in a store is known.
The carrier writes it, and the agent when somebody else has proved something; a line is one `write` to a
file opened for appending, so they do not mix.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Tuple

from . import manifest
from .crash_points import crash_point
from .manifest import LOCAL

FOUND = "found"
SENDING = "sending"
LEVEL = "level"
UNPROVEN = "unproven"
FAILED = "failed"
REFUTED = "refuted"
RECORDED = "recorded"
REMOVED = "removed"
GONE = "gone"
EVENTS = (FOUND, SENDING, LEVEL, UNPROVEN, FAILED, REFUTED, RECORDED, REMOVED, GONE)

ON_DISK = "disk"
"""In the place of a store's name: the runtime's own disk."""

Event = Dict[str, Any]
Order = Tuple[int, int, float]


@dataclass
class Standing:
    """One try to bring a checkpoint to one store."""

    store: str
    number: int
    place: str
    level: str = ""
    """"" until the store was handed all of it."""
    since: float = 0.0
    receipts: List[Dict[str, Any]] = field(default_factory=list)
    is_unproven: bool = False
    is_over: bool = False
    """Given up, refuted or removed: no claim, but its folder may still be in the store."""
    is_recorded: bool = False
    why: str = ""


@dataclass
class Checkpoint:
    """One that was once whole on the runtime's disk."""

    name: str
    step: Optional[int]
    after_step: int
    attempt: int
    saved: float
    size_bytes: int
    sha256: str
    source: str
    is_best: bool = False
    is_local: bool = True
    tries: List[Standing] = field(default_factory=list)
    numbers: Dict[str, int] = field(default_factory=dict)
    """Of the last try at each store; a number is never given twice, also when its try is gone."""

    @property
    def order(self) -> Order:
        """The higher, the newer."""
        return self.attempt, self.after_step, self.saved

    def current(self, store: str) -> Optional[Standing]:
        """The try at that store that still counts."""
        found = [one for one in self.tries if one.store == store and not one.is_over]
        return found[-1] if found else None

    def level_in(self, store: str) -> str:
        """How far it is in that store; "" for nowhere."""
        standing = self.current(store)
        return standing.level if standing else ""

    @property
    def best_standing(self) -> Optional[Standing]:
        """The highest claim; of equals the first that was made."""
        claims = [one for one in self.tries if one.level and not one.is_over]
        return max(claims, key=lambda one: (_rank(one), -one.since), default=None)

    @property
    def level(self) -> str:
        """The highest level that it has anywhere; "" when it is nowhere."""
        standing = self.best_standing
        return standing.level if standing else LOCAL if self.is_local else ""

    def is_safe(self, accept: str) -> bool:
        """Whether its level is one that the user accepts."""
        return bool(self.level) and manifest.is_enough(self.level, accept)


class Claims:
    """The checkpoints of a job by name, as its journal tells."""

    def __init__(self) -> None:
        self.checkpoints: Dict[str, Checkpoint] = {}
        self._newest_first: Optional[List[Checkpoint]] = None

    def apply(self, event: Event) -> None:
        """Take in one event. What speaks of an unknown checkpoint or try is of no use to anybody."""
        self._newest_first = None
        kind, name = event.get("event"), str(event.get("name"))
        if kind == FOUND:
            self._find(name, event)
            return
        checkpoint = self.checkpoints.get(name)
        if checkpoint is None:
            return
        if event.get("store") == ON_DISK:
            checkpoint.is_local = False
            return
        if kind == SENDING:
            standing = Standing(str(event["store"]), int(event["try"]), str(event["place"]))
            checkpoint.tries.append(standing)
            checkpoint.numbers[standing.store] = standing.number
            return
        for standing in checkpoint.tries:
            if (standing.store, standing.number) == (event.get("store"), event.get("try")):
                _change(standing, event)
                if kind == GONE:
                    checkpoint.tries.remove(standing)
                return

    def newest_first(self) -> List[Checkpoint]:
        """All that are still somewhere."""
        if self._newest_first is None:
            there = [one for one in self.checkpoints.values() if one.level]
            self._newest_first = sorted(there, key=lambda one: one.order, reverse=True)
        return self._newest_first

    def newest(self) -> Optional[Checkpoint]:
        """The newest that was ever whole, even if it is nowhere now."""
        return max(self.checkpoints.values(), key=lambda one: one.order, default=None)

    def safe(self, accept: str) -> Optional[Checkpoint]:
        """The newest that is safe."""
        return next((one for one in self.newest_first() if one.is_safe(accept)), None)

    def with_content(self, attempt: int, step: Optional[int], sha256: str) -> Optional[Checkpoint]:
        """The checkpoint that is the same, if it was found before."""
        for one in self.checkpoints.values():
            if (one.attempt, one.step, one.sha256) == (attempt, step, sha256):
                return one
        return None

    def step_before(self, saved: float) -> int:
        """The highest step that was saved by then; -1 for none."""
        steps = [one.step for one in self.checkpoints.values() if one.saved <= saved]
        return max((step for step in steps if step is not None), default=-1)

    def _find(self, name: str, event: Event) -> None:
        known = self.checkpoints.get(name)
        if known is not None:
            known.is_local = True
            return
        self.checkpoints[name] = Checkpoint(
            name=name,
            step=event["step"],
            after_step=int(event["after_step"]),
            attempt=int(event["attempt"]),
            saved=float(event["saved"]),
            size_bytes=int(event["size_bytes"]),
            sha256=str(event["sha256"]),
            source=str(event["source"]),
            is_best=bool(event.get("is_best")),
        )


class Journal:
    """The file, as this process has read it so far; others may append to it meanwhile."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._read = 0
        self.claims = Claims()

    def refresh(self) -> bool:
        """Take in what was appended; whether that was anything."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._read)
                fresh = file.read()
        except FileNotFoundError:
            return False
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            event = _parse(line)
            if event is not None:
                self.claims.apply(event)
        return bool(whole)

    def write(self, kind: str, name: str, **more: Any) -> None:
        """Append an event; it is on the disk then. OSError when the disk does not take it."""
        assert kind in EVENTS, kind
        event = {"event": kind, "time": time.time(), "name": name, **more}
        said = more["level"] if kind == LEVEL else kind
        crash_point("checkpoint.{}_unwritten".format(said))
        _append(self._path, json.dumps(event, separators=(",", ":")).encode("ascii"))
        crash_point("checkpoint.{}_written".format(said))
        self.refresh()


def read_claims(path: str) -> Claims:
    """What the journal at that path says; nothing when there is none."""
    journal = Journal(path)
    journal.refresh()
    return journal.claims


def _append(path: str, line: bytes) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(handle).st_size
        # What a kill or a full disk tore is closed off, so that it is one bad line and not two.
        is_torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        data = (b"\n" if is_torn else b"") + line + b"\n"
        written = os.write(handle, data)
        if written != len(data):
            raise OSError(28, "the disk is full", path)
        os.fsync(handle)
    finally:
        os.close(handle)


def _parse(line: bytes) -> Optional[Event]:
    try:
        event = json.loads(line.decode("ascii"))
    except ValueError:
        return None  # Torn: whoever wrote it was killed before he acted on it.
    return event if isinstance(event, dict) else None


def _change(standing: Standing, event: Event) -> None:
    kind, standing.why = event["event"], str(event.get("why", ""))
    if kind in (LEVEL, UNPROVEN):
        standing.level = str(event.get("level", standing.level))
        standing.since = float(event["time"])
        standing.is_unproven = kind == UNPROVEN
        if standing.level == manifest.COMMITTED:
            standing.receipts = []  # It may be said again, after a kill.
        standing.receipts = standing.receipts + list(event.get("receipts") or [])
    elif kind == RECORDED:
        standing.is_recorded = True
    elif kind in (FAILED, REFUTED, REMOVED):
        standing.level, standing.is_over = "", True


def _rank(standing: Standing) -> int:
    return manifest.rank_of(standing.level)


def rows(claims: Claims) -> Iterable[Dict[str, Any]]:
    """As `checkpoint.list` tells them, newest first."""
    return [row_of(one) for one in claims.newest_first()]


def row_of(checkpoint: Checkpoint) -> Dict[str, Any]:
    """A checkpoint for those that ask."""
    best = checkpoint.best_standing
    levels = {one.store: one.level for one in checkpoint.tries if one.level and not one.is_over}
    return {
        "name": checkpoint.name,
        "step": checkpoint.step,
        "attempt": checkpoint.attempt,
        "saved": checkpoint.saved,
        "level": checkpoint.level,
        "unproven": best.is_unproven if best else False,
        "store": best.store if best else ON_DISK,
        "path": best.place if best else checkpoint.source,
        "size_bytes": checkpoint.size_bytes,
        "sha256": checkpoint.sha256,
        "levels": levels,
        "local": checkpoint.is_local,
        "since": best.since if best else checkpoint.saved,
    }
