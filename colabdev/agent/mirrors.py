"""The requests about mirrors: waking one, waiting until Drive was handed everything, how it stands."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import changes, daemons, jobdir
from .daemons import agent_name
from .mirror_files import MAX_FILE_BYTES, Place, read_state
from .workdir import View, WorkDir

Answer = Tuple[Dict[str, Any], bytes]

_POLL_S = 0.05
_SAY_S = 1.0
_REVIVE_S = 2.0
_NAMED = 20


def wake(workdir: str, drive_dir: Optional[str]) -> int:
    """See that the work dir has a mirror and that it looks now; returns the number of this ask.

    0 when there is nothing to mirror, or no Drive. Never fails, and waits for nobody: no sync and no
    job may suffer from Drive.
    """
    place = Place(workdir)
    if not drive_dir or not os.path.exists(place.marker):
        return 0
    try:
        number = _ask(place, drive_dir)
        _revive(place)
    except OSError:
        return 0
    return number


def answer_status(arguments: Dict[str, Any], body: bytes) -> Answer:
    """How the mirror of `workdir` stands: `mirror` as `Mirror.say` wrote it, or null; and whether it
    `runs`. Touches no Drive."""
    place = Place(str(arguments["workdir"]))
    return {"mirror": read_state(place), "runs": daemons.is_held(place.lock)}, b""


def flush(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Hand Drive what is there now, and say so; at last what came of it.

    Arguments: `workdir`, `drive_dir` (null without a Drive), `timeout_s`. Frames: `{"state"}`
    meanwhile; then `{"end": true, "stored", "problem", "away", "away_count"}`. `stored` is `[path,
    bytes, level]` or null. `away` are the first of the files that are only here as they are now: no
    sync brought them home, and Drive was not handed them, which it never is those that are too large
    for an archive; `away_count` is how many they are.
    """
    path = str(arguments["workdir"])
    if not os.path.exists(Place(path).marker):
        yield _end(None, "", []), b""
        return
    drive_dir = arguments.get("drive_dir")
    if not drive_dir:
        yield _end(None, "there is no Drive", _away(path)), b""
        return
    place = Place(path)
    deadline = time.monotonic() + float(arguments["timeout_s"])
    told: Dict[str, Any] = {}
    for told in _answers(place, str(drive_dir), deadline):
        if told.get("state") is not None and "answered" not in told:
            yield told, b""
    if told.get("answered") and not told["problem"]:
        yield _end(told["stored"], "", _away(path, larger_than=MAX_FILE_BYTES)), b""
        return
    reason = told.get("problem") or "Drive did not take it in time"
    yield _end(None, str(reason), _away(path)), b""


def _answers(place: Place, drive_dir: str, deadline: float) -> Iterator[Dict[str, Any]]:
    """`{"state"}` about once a second, and at last the mirror's own answer to an ask of now, if it
    comes in time. A mirror that was killed is started again."""
    try:
        number = _ask(place, drive_dir)
    except OSError as exc:
        yield {"answered": 0, "problem": "cannot write in the work dir: {}".format(exc)}
        return
    said_at = revived_at = 0.0
    while time.monotonic() < deadline:
        now = time.monotonic()
        if now - revived_at >= _REVIVE_S:
            revived_at = now
            _revive(place)
        told = read_state(place) or {}
        if told.get("agent") == agent_name() and told.get("answered", 0) >= number:
            yield told
            return
        if now - said_at >= _SAY_S:
            said_at = now
            yield {"state": str(told.get("state"))}
        time.sleep(_POLL_S)


def _ask(place: Place, drive_dir: str) -> int:
    before = 0
    with suppress(jobdir.Unreadable, ValueError, TypeError):
        before = int((jobdir.read_document(place.ask) or {}).get("number", 0))
    number = max(time.time_ns(), before + 1)
    asked = {"number": number, "agent": agent_name(), "drive_dir": drive_dir}
    jobdir.write_document(place.ask, asked)
    return number


def _revive(place: Place) -> None:
    """Start the mirror when none runs, or one of another version does: that one leaves."""
    told = read_state(place) or {}
    if daemons.is_held(place.lock) and told.get("agent") == agent_name():
        return
    daemons.start(["mirror", place.workdir], place.complaints)


def _away(path: str, larger_than: int = -1) -> List[str]:
    """The files whose content, as it is now, neither a sync put there nor brought home."""
    workdir = WorkDir(path)
    survey = workdir.survey(View(workdir.ledger.rules(None)))
    return sorted(
        entry.path
        for entry in survey.entries
        if entry.size > larger_than
        and survey.baseline.get(entry.path, changes.NOTHING) != entry.fingerprint
    )


def _end(stored: Any, problem: str, away: List[str]) -> Dict[str, Any]:
    return {
        "end": True,
        "stored": stored,
        "problem": problem,
        "away": away[:_NAMED],
        "away_count": len(away),
    }
