"""Telling the other side of edits in a work dir as they are made."""

from __future__ import annotations

import os
import select
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from . import tree
from .noticing import Noticer
from .refusal import Refusal
from .workdir import WorkDir
from .worth_watching import ANYTHING, Walk, known

Answer = Tuple[Dict[str, Any], bytes]

_STDIN = 0
_LOOK_UP_S = 2.0
"""Nobody tells that the work dir was replaced, or that the project's rules are others."""
_SYNC_S = 60.0
"""A sync that changes files for longer says itself what it left undone."""
_NAMED = 100


def watch(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Say `{"watching", "because"}` at once, then `{"changed": paths, "count"}` for each edit.

    Arguments: `workdir`. Only told of is what differs from what both sides last had, so a sync causes
    nothing itself. Ends with `{"end"}` when the work dir has gone, and without a word when stdin has
    something for us.
    """
    workdir = str(arguments["workdir"])
    watched = _Watched(workdir)
    try:
        yield watched.arm(), b""
        while not select.select([_STDIN], [], [], 0)[0]:
            if watched.is_gone():
                yield {"end": True}, b""
                return
            if watched.has_other_rules():
                yield watched.arm(), b""
                continue
            edited = watched.edited(watched.noticer.wait(_LOOK_UP_S, [_STDIN]))
            if edited:
                yield {"changed": sorted(edited)[:_NAMED], "count": len(edited)}, b""
    finally:
        watched.close()


class _Watched:
    """A work dir that is watched."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = self._look_up()
        self._rules_time = 0
        self._workdir = WorkDir(path)
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

    def edited(self, changed: Set[str]) -> List[str]:
        """Those of the changed paths that are not as both sides last had them."""
        if not changed:
            return []
        try:
            with self._workdir.ledger.locked(_SYNC_S):
                pass  # A sync that is at it writes down what it did before it lets go.
        except OSError:
            return list(changed)
        if not self._workdir.ledger.is_current():
            self._workdir = WorkDir(self._path)
        whole = [path for path in changed if path == ANYTHING or path.endswith("/")]
        return whole or self._workdir.differing(sorted(changed))

    def is_gone(self) -> bool:
        """Somebody removed the work dir, or put another one in its place."""
        return self._look_up() != self._identity

    def has_other_rules(self) -> bool:
        """The project's rules were told anew since we began."""
        return self._time_of_rules() != self._rules_time

    def close(self) -> None:
        if self._noticer is not None:
            self._noticer.close()
            self._noticer = None

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
