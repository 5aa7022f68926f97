"""Telling the other side of edits in a work dir as they are made, and making its own at once."""

from __future__ import annotations

import collections
import os
import threading
from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple

from . import few_changes, mirrors, tree, wire
from .few_changes import Doubt
from .ledger import Foreign
from .noticing import Noticer
from .refusal import Refusal
from .sync import Upload
from .workdir import Stopped, WorkDir
from .worth_watching import ANYTHING, Walk, known

Answer = Tuple[Dict[str, Any], bytes]

_LOOK_UP_S = 2.0
"""Nobody tells that the work dir was replaced, or that the project's rules are others."""
_SYNC_S = 60.0
"""A sync that changes files for longer says itself what it left undone."""
_NAMED = 100


def watch(arguments: Dict[str, Any], upload: Upload, send: Callable[[Answer], None]) -> None:
    """Watch a work dir for a client, frame by frame, until it goes.

    Arguments: `workdir`, `marker`, `max_bytes`, `drive_dir`. It is told `{"watching", "because"}` at
    once, and when the rules became others; `{"changed": paths, "count"}` for each edit, with what was
    done in the body (see `few_changes`), or nothing where only a whole sync tells; `{"end"}` when the
    work dir has gone. Only told of is what differs from what both sides last had, so a sync causes
    nothing itself.
    The client may send `{"push": number}` with changes in the body, which is answered by `{"pushed":
    number}` and `failures`, or `doubt`, and then nothing was done.
    """
    watched = _Watched(arguments)
    try:
        send((watched.arm(), b""))
        ear = _Ear(upload)
        while watched.is_there():
            if watched.has_other_rules():
                send((watched.arm(), b""))
            changed = watched.noticer.wait(_LOOK_UP_S, [ear.wakes])
            heard = ear.take()
            for frame in heard:
                if frame is None:
                    return ear.close()
                send((watched.push(*frame), b""))
                watched.wake_mirror()
            told = watched.told(changed)
            if told is not None:
                send(told)
            elif not heard:
                watched.save()
        send(({"end": True}, b""))
        ear.close()
    finally:
        watched.close()


class _Ear:
    """Hears what the client sends while something else is waited for, too. Until the client goes nobody
    else may read what it sends."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._frames: Deque[Optional[wire.Frame]] = collections.deque()
        self.wakes, self._bell = os.pipe()
        """Can be read when there is something to be taken."""
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def take(self) -> List[Optional[wire.Frame]]:
        """What came since; None is the end."""
        frames = []
        while self._frames:
            frames.append(self._frames.popleft())
            os.read(self.wakes, 1)
        return frames

    def close(self) -> None:
        """Let go of everything once the client has gone."""
        self._thread.join()
        os.close(self.wakes)
        os.close(self._bell)

    def _listen(self) -> None:
        frame: Optional[wire.Frame] = ({}, b"")
        while frame is not None:
            try:
                frame = self._upload.next_frame()
            except (OSError, ValueError, wire.WireError):
                frame = None
            self._frames.append(frame)
            os.write(self._bell, b".")


class _Watched:
    """A work dir that is watched."""

    def __init__(self, arguments: Dict[str, Any]) -> None:
        self._arguments = arguments
        self._path = str(arguments["workdir"])
        self._identity = self._look_up()
        self._rules_time = 0
        self._workdir = WorkDir(self._path)
        self._noticer: Optional[Noticer] = None

    @property
    def noticer(self) -> Noticer:
        assert self._noticer is not None, "armed before"
        return self._noticer

    def arm(self) -> Dict[str, Any]:
        """Watch by the rules as they are now; what to tell of that."""
        self.close()
        self._rules_time = self._time_of_rules()
        self._workdir = WorkDir(self._path)
        rules = self._workdir.ledger.rules(None)
        if rules is None:
            raise Refusal("{} was never synced".format(self._path), "colabdev sync")
        self._noticer = Noticer(Walk(self._path, rules, known(self._workdir.owned())))
        return {"watching": self._noticer.how, "because": self._noticer.because}

    def told(self, changed: Set[str]) -> Optional[Answer]:
        """What to tell of the changed paths; None when they are as both sides last had them."""
        if not changed:
            return None
        try:
            # A sync that is at it writes down what it did before it lets go.
            with self._workdir.ledger.locked(_SYNC_S):
                self._catch_up()
                edited = [path for path in changed if path == ANYTHING or path.endswith("/")]
                edited = edited or self._workdir.differing(sorted(changed))
                max_bytes = self._arguments.get("max_bytes")
                body = few_changes.tell(self._workdir, edited, max_bytes) if edited else b""
        except OSError:
            edited, body = list(changed), b""
        if not edited:
            return None
        return {"changed": sorted(edited)[:_NAMED], "count": len(edited)}, body

    def push(self, header: Dict[str, Any], body: bytes) -> Dict[str, Any]:
        """Make the client's changes; what came of it."""
        answer: Dict[str, Any] = {"pushed": header.get("push")}
        try:
            with self._workdir.ledger.locked(_SYNC_S):
                self._workdir.ledger.check(self._arguments["marker"])
                self._catch_up()
                failures = few_changes.take(self._workdir, body)
        except (Doubt, Foreign, Stopped, OSError) as exc:
            return dict(answer, doubt=str(exc))
        return dict(answer, failures=[list(failure) for failure in failures])

    def wake_mirror(self) -> None:
        """Have Drive get what came. Answered already: nobody waits for this."""
        mirrors.wake(self._path, self._arguments.get("drive_dir"))

    def save(self) -> None:
        """Write down what was done, now that nothing happens."""
        few_changes.save(self._workdir)

    def is_there(self) -> bool:
        """Nobody removed the work dir, or put another one in its place."""
        return self._look_up() == self._identity

    def has_other_rules(self) -> bool:
        """The project's rules were told anew since we began."""
        return self._time_of_rules() != self._rules_time

    def close(self) -> None:
        if self._noticer is not None:
            self._noticer.close()
            self._noticer = None

    def _catch_up(self) -> None:
        """Know what others wrote down meanwhile."""
        if not self._workdir.ledger.is_current():
            self._workdir = WorkDir(self._path)

    def _look_up(self) -> Tuple[int, ...]:
        try:
            status = os.stat(self._path)
        except OSError:
            return ()
        return (status.st_dev, status.st_ino)

    def _time_of_rules(self) -> int:
        try:
            return os.stat("{}/{}/rules.json".format(self._path, tree.OURS)).st_mtime_ns
        except OSError:
            return 0
