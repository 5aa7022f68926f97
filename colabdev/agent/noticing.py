"""Noticing that files of a project change, on either end: by inotify, or by a look now and then."""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from typing import Callable, Dict, Sequence, Set, Tuple

from .inotify import Inotify
from .worth_watching import ANYTHING, Unwatchable, Walk, Watching

SETTLE_S = 0.02
"""Nothing changes for so long: an editor that writes a file, renames it and sets its mode is done."""
LONGEST_SETTLE_S = 1.0
"""Somebody who writes all the time does not keep the others waiting for longer."""
LONGEST_GIT_S = 30.0
"""So long git may hold its lock while it changes thousands of files; an older lock was left behind."""

_SHARE = 0.005
"""What looking may cost of a core."""
_SHORTEST_PAUSE_S = 2.0
_GIT_POLL_S = 0.05


class Noticer:
    """The best way there is to notice changes in a project, and never none."""

    def __init__(self, walk: Walk, events: Callable[[Walk], Watching] = Inotify) -> None:
        self._walk = walk
        self.because = ""
        """Why it is only looking, if so."""
        try:
            self._watching = events(walk)
        except Unwatchable as exc:
            self._fall_back(exc)

    @property
    def how(self) -> str:
        """In a word."""
        return self._watching.how

    def wait(self, timeout_s: float, wakes: Sequence[int] = ()) -> Set[str]:
        """The paths that changed; nothing after `timeout_s`, or once one of `wakes` can be read.

        What changes in one go is told in one: once it settled, and git has let go of the work tree.
        `ANYTHING` stands for what nobody knows, and a path that ends with '/' for a folder that went.
        """
        try:
            changed = self._settled(timeout_s, wakes)
        except Unwatchable as exc:
            self._watching.close()
            self._fall_back(exc)
            changed = {ANYTHING}
        if changed:
            wait_for_git(self._walk.root)
        return changed

    def close(self) -> None:
        """Let go of what the system holds for it."""
        self._watching.close()

    def _settled(self, timeout_s: float, wakes: Sequence[int]) -> Set[str]:
        changed = self._watching.wait(timeout_s, wakes)
        deadline = time.monotonic() + LONGEST_SETTLE_S
        more = changed
        while more and time.monotonic() < deadline:
            more = self._watching.wait(SETTLE_S, wakes)
            changed |= more
        return changed

    def _fall_back(self, exc: Unwatchable) -> None:
        self.because = str(exc)
        self._watching = Lookout(self._walk)


def wait_for_git(root: str) -> None:
    """Wait while git changes the work tree around `root`."""
    index = git_index(root)
    while index:
        try:
            if time.time() - os.stat(index + ".lock").st_mtime > LONGEST_GIT_S:
                return
        except OSError:
            return
        time.sleep(_GIT_POLL_S)


def git_index(root: str) -> str:
    """Where git keeps what it tracks in the work tree around `root`; "" when there is none."""
    folder = os.path.abspath(root)
    while not os.path.exists(os.path.join(folder, ".git")):
        above = os.path.dirname(folder)
        if above == folder:
            return ""
        folder = above
    place = os.path.join(folder, ".git")
    if os.path.isfile(place):  # A linked work tree, or a submodule.
        try:
            with open(place, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read(4096)
        except OSError:
            return ""
        place = os.path.join(folder, text.partition("gitdir:")[2].strip())
    return os.path.join(place, "index")


class Lookout(Watching):
    """Looks at every file now and then, the rarer the longer that takes."""

    how = "looking"

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._seen = self._look()

    def wait(self, timeout_s: float, wakes: Sequence[int] = ()) -> Set[str]:
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = min(self._next - time.monotonic(), deadline - time.monotonic())
            if wakes:
                if select.select(wakes, [], [], max(left_s, 0.0))[0]:
                    return set()
            elif left_s > 0:
                time.sleep(left_s)
            if time.monotonic() < self._next:
                return set()
            before, self._seen = self._seen, self._look()
            pairs = self._seen.items() ^ before.items()
            if pairs:
                return {path for path, _ in pairs}

    def close(self) -> None:
        self._seen = {}

    def _look(self) -> Dict[str, Tuple[int, ...]]:
        begun = time.thread_time()
        found: Dict[str, Tuple[int, ...]] = {}
        pending = [self._walk.top()]
        while pending:
            folder = pending.pop()
            for entry in self._walk.list(folder) or ():
                if entry.is_dir(follow_symlinks=False):
                    below = self._walk.enter(folder, entry.name)
                    if below is not None:
                        pending.append(below)
                elif self._walk.matters(folder, entry.name):
                    with suppress(OSError):
                        found[folder.path + entry.name] = _outside(entry)
        cost_s = time.thread_time() - begun
        self._next = time.monotonic() + max(_SHORTEST_PAUSE_S, cost_s / _SHARE)
        return found


def _outside(entry: "os.DirEntry[str]") -> Tuple[int, ...]:
    status = entry.stat(follow_symlinks=False)
    return (status.st_size, status.st_mtime_ns, status.st_mode, status.st_ino)
