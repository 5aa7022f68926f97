"""The agent's side of `colabdev sync`: comparing a work dir, and applying changes to it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
import zlib
from typing import Any, Callable, Dict, Tuple

from . import changes, wire
from .crash_points import crash_point
from .workdir import Foreign, Stopped, Survey, WorkDir

Answer = Tuple[Dict[str, Any], bytes]

STALL_S = 60.0
"""A sync that hears nothing for so long is given up: its other end is gone, and it holds the lock."""
LOCK_TIMEOUT_S = 30.0
_ROWS_PER_PIECE = 500


class Upload:
    """The frames that follow a request, up to `{"end": true}`."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._ended = False

    def next_frame(self) -> wire.Frame:
        """The next one; Truncated when the other side is gone."""
        frame = wire.read_frame(self._read)
        if frame is None:
            raise wire.Truncated("the stream ended before its last frame")
        self._ended = bool(frame[0].get("end"))
        return frame

    def skip_rest(self) -> None:
        """Take what the handler left, so that the next request is read as one."""
        while not self._ended:
            self.next_frame()


def compare(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Whether the owned files are the tree that the client has; if not, how each of them is.

    Arguments: `workdir`, `marker`, `tree`. The answer's body, when the trees differ, is a compressed
    JSON array of `[path, fingerprint as sync put it there, fingerprint now]`.
    """
    workdir = WorkDir(str(arguments["workdir"]))
    try:
        workdir.check(arguments["marker"])
    except Foreign as exc:
        return {"foreign": str(exc)}, b""
    survey = workdir.survey()
    found = survey.tree
    same = found == arguments.get("tree")
    if same:
        workdir.agree(survey)
    workdir.keep_hashes()
    if same:
        return {"same": True, "tree": found}, b""
    return {"same": False, "tree": found}, _packed_rows(survey)


def apply(arguments: Dict[str, Any], upload: Upload) -> Answer:
    """Apply a stream of changes; see `agent.changes`.

    Arguments: `workdir`, `marker`, `check_only`. The answer: `failures` (path, kind, detail) and the
    hash of the `tree` that sync owns there now; or `foreign`, or `stopped` with the reason.
    """
    path = str(arguments["workdir"])
    with _Watchdog(STALL_S) as watchdog:
        return _apply(path, arguments, lambda: watchdog.guard(upload.next_frame))


def _apply(path: str, arguments: Dict[str, Any], next_frame: Callable[[], changes.Frame]) -> Answer:
    check_only = bool(arguments.get("check_only"))
    unpacker = changes.Unpacker(next_frame, contents=not check_only)
    try:
        if check_only:
            workdir = WorkDir(path)
            workdir.check(arguments["marker"])
            failures = workdir.apply(unpacker, check_only=True)
            return {"failures": [list(failure) for failure in failures]}, b""
        os.makedirs(path, exist_ok=True)
        WorkDir(path).claim(arguments["marker"])
        with WorkDir(path).locked(LOCK_TIMEOUT_S):
            workdir = WorkDir(path)  # Read again: another sync may have ended just now.
            try:
                failures = workdir.apply(unpacker)
            except Stopped as exc:
                with contextlib.suppress(OSError):
                    workdir.save()  # Where that is impossible, too, the journal says the same.
                return {"stopped": str(exc)}, b""
            crash_point("agent.applied")
            survey = workdir.survey()
            workdir.save()
            crash_point("agent.saved")
    except Foreign as exc:
        return {"foreign": str(exc)}, b""
    return {"failures": [list(failure) for failure in failures], "tree": survey.tree}, b""


def _packed_rows(survey: Survey) -> bytes:
    entries = {entry.path: entry for entry in survey.entries}
    unfit = {path for path, _ in survey.problems}

    def now(path: str) -> str:
        if path in unfit:
            return changes.OTHER
        return entries[path].fingerprint if path in entries else changes.NOTHING

    packer = zlib.compressobj(1)
    pieces = []
    paths = sorted(survey.baseline)
    # Piece by piece, so that a large tree is never in memory as text.
    for start in range(0, len(paths), _ROWS_PER_PIECE):
        rows = [
            [path, survey.baseline[path], now(path)]
            for path in paths[start : start + _ROWS_PER_PIECE]
        ]
        text = json.dumps(rows, separators=(",", ":"))[1:-1]
        pieces.append(packer.compress(((",\n" if start else "[") + text).encode("ascii")))
    pieces.append(packer.compress(b"]" if paths else b"[]"))
    pieces.append(packer.flush())
    return b"".join(pieces)


class _Watchdog:
    """Ends this process when a frame does not come in time: the journal makes that safe anywhere."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._done = threading.Event()
        self._deadline = math.inf

    def __enter__(self) -> _Watchdog:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def guard(self, next_frame: Callable[[], changes.Frame]) -> changes.Frame:
        self._deadline = time.monotonic() + self._limit_s
        try:
            return next_frame()
        finally:
            self._deadline = math.inf

    def _watch(self) -> None:
        while not self._done.wait(1.0):
            if time.monotonic() >= self._deadline:
                os._exit(3)
