"""Finding what is whole in a trainer's checkpoint directories, without ever being in its way.

What has a manifest is whole when that is there. What has none (`.pt`, `.pth`, `.ckpt`, `.safetensors`,
the directories of Lightning, Hugging Face and torch's distributed checkpoints) is whole when nobody has
it open for writing and nothing of it has changed for a while.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from . import processes
from .manifest import FILE, FOLDER, MANIFEST, WITH_MANIFEST

WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors")

_DCP = ".metadata"
"""What torch's distributed checkpoints write last."""
_INCOMPLETE = "checkpoint-is-incomplete.txt"
"""What Hugging Face leaves in a checkpoint that a signal cut short."""
_HUGGING_FACE = re.compile("checkpoint-[0-9]+")
_TRAINER_STATE = "trainer_state.json"
_TEMPORARY = re.compile(r"\.|~|.*(\.tmp|\.part|\.partial|\.incomplete|~)$|tmp[-_.]")
_MOST_FILES = 10000

Stamp = Tuple[Tuple[str, int, int, int], ...]
"""Of each file its path, inode, size and mtime_ns; not the ctime, which a link of ours changes."""


class Candidate(NamedTuple):
    """What may be a checkpoint: as it was when looked at."""

    path: str
    kind: str
    stamp: Stamp
    saved: float
    """The newest mtime, in seconds since 1970."""


class Finder:
    """Looks at the directories again and again; remembers since when each candidate is as it is."""

    def __init__(self, patterns: Iterable[str], since: float) -> None:
        self._patterns = list(patterns)
        self._since = since
        self._first_seen: Dict[Candidate, float] = {}
        self._done: Dict[str, Stamp] = {}

    def look(self, now: float, settle_s: float) -> List[Candidate]:
        """Those that are whole and not done, newest first. `now` is of any clock that goes on."""
        seen: Dict[Candidate, float] = {}
        ready = []
        for one in candidates(self._patterns, self._since):
            if self._done.get(one.path) == one.stamp:
                continue
            seen[one] = self._first_seen.get(one, now)
            if one.kind == WITH_MANIFEST or (
                now - seen[one] >= settle_s and not is_being_written(one.path)
            ):
                ready.append(one)
        self._first_seen = seen
        return sorted(ready, key=lambda one: one.saved, reverse=True)

    def is_pending(self) -> bool:
        """Something was seen at the last look that is not done."""
        return bool(self._first_seen)

    def done(self, candidate: Candidate) -> None:
        """Nothing more to do about it, as long as it stays as it is."""
        self._done[candidate.path] = candidate.stamp
        self._first_seen.pop(candidate, None)


def candidates(patterns: Iterable[str], since: float) -> Iterator[Candidate]:
    """What may be a checkpoint in directories of those patterns, and was saved at `since` or later."""
    places = {os.path.realpath(place) for one in patterns for place in glob.glob(one)}
    for place in sorted(places):
        for name in _names(place):
            found = look_at(os.path.join(place, name))
            if found is not None and found.saved >= since:
                yield found


def look_at(path: str) -> Optional[Candidate]:
    """What is at that path, if it may be a checkpoint; a link never is."""
    if _TEMPORARY.match(os.path.basename(path)):
        return None
    try:
        seen = os.lstat(path)
        if stat.S_ISDIR(seen.st_mode):
            return _look_at_described(path) or _look_at_folder(path)
    except OSError:
        return None
    is_file = stat.S_ISREG(seen.st_mode) and path.endswith(WEIGHTS) and seen.st_size > 0
    return _candidate(path, FILE, [("", seen)]) if is_file else None


def files_below(path: str) -> List[Tuple[str, os.stat_result]]:
    """The files below, with paths relative to it, sorted. Links and others are no part of it."""
    found = []
    for parent, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            whole = os.path.join(parent, name)
            try:
                seen = os.lstat(whole)
            except OSError:
                continue
            if stat.S_ISREG(seen.st_mode):
                found.append((os.path.relpath(whole, path), seen))
        if len(found) > _MOST_FILES:
            break
    return found


def is_being_written(path: str) -> bool:
    """Whether a process that we may look at has it, or something below it, open for writing."""
    for pid in os.listdir("/proc") if processes.HAS_PROC else []:
        if not pid.isdigit():
            continue
        for handle in _names("/proc/{}/fd".format(pid)):
            try:
                target = os.readlink("/proc/{}/fd/{}".format(pid, handle))
                if target == path or target.startswith(path + "/"):
                    with open("/proc/{}/fdinfo/{}".format(pid, handle)) as file:
                        flags = re.search("flags:\\s*([0-7]+)", file.read())
                    if flags and int(flags.group(1), 8) & os.O_ACCMODE != os.O_RDONLY:
                        return True
            except OSError:
                continue
    return False


def _look_at_described(path: str) -> Optional[Candidate]:
    try:
        written = os.lstat(os.path.join(path, MANIFEST))
    except FileNotFoundError:
        return None
    return _candidate(path, WITH_MANIFEST, [(MANIFEST, written)])


def _look_at_folder(path: str) -> Optional[Candidate]:
    """A checkpoint that is a directory without a manifest, by the marks of those who write such."""
    names = set(_names(path))
    if not names or _INCOMPLETE in names:
        return None
    is_hugging_face = _HUGGING_FACE.fullmatch(os.path.basename(path)) is not None
    if is_hugging_face and _TRAINER_STATE not in names:
        return None
    is_distributed = any(name.endswith(".distcp") for name in names)
    if is_distributed and _DCP not in names:
        return None
    has_weights = any(name.endswith(WEIGHTS) for name in names)
    if not (is_hugging_face or _DCP in names or has_weights or path.endswith(WEIGHTS)):
        return None
    files = files_below(path)
    return _candidate(path, FOLDER, files) if files else None


def _candidate(path: str, kind: str, files: List[Tuple[str, os.stat_result]]) -> Candidate:
    stamp = tuple((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in files)
    return Candidate(path, kind, stamp, max(seen.st_mtime for _, seen in files))


def _names(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
