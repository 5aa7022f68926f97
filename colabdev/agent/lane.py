"""One store's share of a carrier: what to do next for it, and the process that does it.

A store is slow, full, dead or lying without another one noticing: each has its lane, with at most one
process at a time. A process that says nothing for long is killed; while one that cannot be killed is
left, nothing more is begun in that lane.
"""

from __future__ import annotations

import errno
import time
from functools import partial
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Tuple

from . import credentials, manifest
from .arrival import Patience, Refuted
from .carrier_files import CarrierFiles, Run
from .child import Child, Message, Say
from .claims import (
    FAILED,
    GONE,
    LEVEL,
    ON_DISK,
    RECORDED,
    REFUTED,
    REMOVED,
    SENDING,
    UNPROVEN,
    Checkpoint,
    Claims,
    Journal,
    Standing,
)
from .fence import Fenced
from .retention import removable
from .stores import SourceChanged, Store, StoreError
from .transfer import Transfer

_REASONS = {
    errno.ENOSPC: "it is full",
    errno.EDQUOT: "it is full",
    errno.EROFS: "it is mounted read-only",
    errno.ENODEV: "it is not mounted",
    errno.ENOTCONN: "Drive's own program on the runtime has ended; it must be mounted again",
}


class Timing(NamedTuple):
    """How patient a carrier is, in seconds."""

    tick_s: float = 0.5
    settle_s: float = 3.0
    """What has no manifest is whole when it did not change for so long."""
    retry_s: float = 5.0
    """After a failure; doubled by each further one, up to ten minutes."""
    stall_s: float = 90.0
    """A process that says nothing for so long hangs."""
    arrive_s: float = 120.0
    silent_s: float = 10.0
    recheck_s: float = 600.0
    """How often what a store said last is asked again."""
    fence_s: float = 60.0
    """How often it is seen that the attempt is still ours."""
    log_s: float = 60.0
    """How often what is new of the log is sealed, however little."""
    log_much_s: float = 5.0
    """Not more often, however much."""

    @property
    def patience(self) -> Patience:
        """What a store is given."""
        return Patience(self.arrive_s, self.silent_s)


_LONGEST_RETRY_S = 600.0


class Task(NamedTuple):
    """What a process is doing; `name` is one of the methods of Transfer."""

    name: str
    work: Callable[[Say], None]
    checkpoint: Optional[Checkpoint] = None
    standing: Optional[Standing] = None


class Lane:
    """What goes to one store."""

    def __init__(
        self, store: Store, run: Run, files: CarrierFiles, journal: Journal, timing: Timing
    ) -> None:
        self.store = store
        self._run = run
        self._journal = journal
        self._timing = timing
        self._transfer = Transfer(store, run, files, timing.patience)
        self._doing: Optional[Task] = None
        self._child: Optional[Child] = None
        self._has_begun = False
        self._checked: Dict[str, float] = {}
        self._failures = 0
        self._retry_at = self._guard_at = 0.0
        self.problem = ""
        """Why the last thing did not work; "" when it did."""
        self.is_fenced = False

    @property
    def has_begun(self) -> bool:
        """The store has the job's record."""
        return self._has_begun

    @property
    def fd(self) -> int:
        """What wakes us; -1 when nothing runs."""
        return self._child.fd if self._child else -1

    def is_idle(self) -> bool:
        """Nothing runs."""
        return self._child is None

    def has_work(self, wanted: Optional[str]) -> bool:
        """There is something to bring, now or after a failure."""
        return not self.is_fenced and self._next_upload(wanted) is not None

    def hurry(self) -> None:
        """Somebody waits: try again now."""
        self._retry_at = 0.0

    def step(self, wanted: Optional[str] = None) -> None:
        """Hear what the process says, give it up if it hangs, and begin the next thing; `wanted` is a
        checkpoint that somebody asks for."""
        self._listen()
        if self._child is None and not self.is_fenced and time.monotonic() >= self._retry_at:
            task = self._choose(wanted)
            if task is not None:
                self._begin(task)

    # --- choosing ---

    def _choose(self, wanted: Optional[str]) -> Optional[Task]:
        if not self._has_begun:
            return Task("begin", self._transfer.begin)
        upload = self._next_upload(wanted)
        if upload:
            return self._upload(upload)
        return (
            self._guarding()
            or self._auditing()
            or self._recording()
            or self._cleaning()
            or self._checking()
        )

    def _next_upload(self, wanted: Optional[str]) -> Optional[Checkpoint]:
        """The newest that is not as far as this store can bring it; the older of those that stay are
        brought only once that is."""
        asked = self._claims.checkpoints.get(wanted or "")
        there = [one for one in self._claims.newest_first() if one.is_local]
        chosen = there[: self._run.keep] + [one for one in there if one.is_best][:1]
        for one in ([asked] if asked and asked.is_local else []) + chosen:
            standing = one.current(self.store.name)
            if standing is None or not standing.level:
                return one
            is_done = manifest.is_enough(standing.level, self.store.best)
            if not is_done and not standing.is_unproven:
                return one
        return None

    def _upload(self, one: Checkpoint) -> Task:
        store = self.store.name
        if one.current(store) is None:
            number = one.numbers.get(store, 0) + 1
            place = one.name if number == 1 else "{}.{}".format(one.name, number)
            # Before anything can be in the store under that name.
            self._journal.write(SENDING, one.name, store=store, **{"try": number}, place=place)
        standing = one.current(store)
        assert standing is not None, "it is written down"
        return self._task("carry", one, standing)

    def _guarding(self) -> Optional[Task]:
        if time.monotonic() < self._guard_at:
            return None
        self._guard_at = time.monotonic() + self._timing.fence_s
        return Task("guard", self._transfer.guard)

    def _auditing(self) -> Optional[Task]:
        """What Drive's own program published, where the token lets us ask Drive itself."""
        if self.store.name != manifest.DRIVEFS:
            return None
        for one, standing in self._brought():
            if standing.level == manifest.PUBLISHED:
                if not credentials.sees_all():
                    return None
                work = partial(self._transfer.audit, one, standing, self._run.api_url)
                return Task("audit", work, one, standing)
        return None

    def _recording(self) -> Optional[Task]:
        """What is CONFIRMED, by whom and wherever, is written down here."""
        for one, standing in self._brought():
            if one.level == manifest.CONFIRMED and not standing.is_recorded:
                return Task("record", partial(self._transfer.record, one), one, standing)
        return None

    def _cleaning(self) -> Optional[Task]:
        """What the store need not have any more. The claim is taken back before anything is deleted."""
        store = self.store.name
        for one in self._claims.checkpoints.values():
            for standing in one.tries:
                if standing.store == store and standing.is_over:
                    return self._task("remove", one, standing)
        for one, standing in removable(self._claims, store, self._run.keep, self._run.accept):
            self._write(REMOVED, one, standing)
            return self._task("remove", one, standing)
        return None

    def _checking(self) -> Optional[Task]:
        """The newest that was proved a while ago: stores forget, and lie."""
        for one, standing in self._brought():
            now = time.monotonic()
            if now - self._checked.setdefault(one.name, now) < self._timing.recheck_s:
                return None
            self._checked[one.name] = now
            return self._task("check", one, standing)
        return None

    def _brought(self) -> Iterator[Tuple[Checkpoint, Standing]]:
        """Those that the store has whole, newest first."""
        for one in self._claims.newest_first():
            standing = one.current(self.store.name)
            if standing and standing.level in (manifest.PUBLISHED, manifest.CONFIRMED):
                yield one, standing

    def _task(self, name: str, one: Checkpoint, standing: Standing) -> Task:
        work: Callable[[Say], None] = partial(getattr(self._transfer, name), one, standing)
        return Task(name, work, one, standing)

    # --- the process ---

    def _begin(self, task: Task) -> None:
        self._doing = task
        self._child = Child(partial(guarded, task.work))

    def _listen(self) -> None:
        child, task = self._child, self._doing
        if child is None or task is None:
            return
        for message in child.messages():
            self._hear(task, message)
        if child.has_ended():
            self._child = self._doing = None
            self._conclude(task, child.last)
        elif time.monotonic() - child.heard > self._timing.stall_s:
            self.problem = "it does not answer"
            child.kill()

    def _hear(self, task: Task, message: Message) -> None:
        kind = message.get("event")
        if kind in (LEVEL, UNPROVEN, REFUTED):
            more = {key: value for key, value in message.items() if key != "event"}
            self._write(str(kind), task.checkpoint, task.standing, **more)
        if kind in (LEVEL, UNPROVEN):
            self.problem, self._failures = "", 0
        if "recorded" in message:
            self._write(RECORDED, task.checkpoint, task.standing)
        if "gone" in message:
            self._write(GONE, task.checkpoint, task.standing)
        self._has_begun = self._has_begun or "begun" in message

    def _conclude(self, task: Task, last: Message) -> None:
        """What came of it, by the last thing that the process said."""
        if "fenced" in last:
            self.is_fenced, self.problem = True, str(last["fenced"])
        elif last.get("event") == REFUTED:
            self._fail(str(last["why"]), 0.0)
        elif "done" in last:
            self.problem, self._failures = "", 0
        else:
            why = str(last.get("problem") or self.problem or "it was interrupted")
            if task.name == "carry":
                self._write(FAILED, task.checkpoint, task.standing, why=why)
            if last.get("is_damaged") and task.checkpoint:
                self._journal.write(REMOVED, task.checkpoint.name, store=ON_DISK)
            self._fail(why, float(last.get("again_s") or 0.0))

    def _fail(self, why: str, again_s: float) -> None:
        self.problem = why
        pause_s = min(self._timing.retry_s * 2**self._failures, _LONGEST_RETRY_S)
        self._failures = min(self._failures + 1, 10)
        self._retry_at = time.monotonic() + max(pause_s, again_s)

    def _write(
        self, kind: str, one: Optional[Checkpoint], standing: Optional[Standing], **more: Any
    ) -> None:
        assert one is not None, "that is only said of one"
        assert standing is not None, "and of one try"
        self._journal.write(
            kind, one.name, store=standing.store, **{"try": standing.number}, **more
        )

    @property
    def _claims(self) -> Claims:
        return self._journal.claims


def guarded(work: Callable[[Say], None], say: Say) -> None:
    """Do it, and say at the end that it is `done`, or in words what it failed of."""
    try:
        work(say)
        say({"done": True})
    except Fenced as exc:
        say({"fenced": str(exc)})
    except Refuted as exc:
        say({"event": REFUTED, "why": str(exc)})
    except SourceChanged as exc:
        say({"problem": str(exc), "is_damaged": True})
    except StoreError as exc:
        say({"problem": str(exc), "again_s": exc.again_s})
    except OSError as exc:
        say({"problem": _REASONS.get(exc.errno or 0, "it fails: {}".format(exc.strerror or exc))})
