"""The agent's side of `colabdev sync`: comparing a work dir, and applying changes to it."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import threading
import time
import zlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from . import changes, rules, tree, wire
from .changes import Change
from .crash_points import crash_point
from .ledger import Foreign, Ledger
from .workdir import Stopped, Survey, View, WorkDir

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
    """How the project's files are there, beside what both sides last had.

    Arguments: `workdir`, `marker`, `rules` (the key of the project's rules; `rules_text` when the agent
    may not know them), `max_bytes`, `outputs` (whether they are looked for), `tree` (the client's
    own), `ancestor` (what it believes that both sides last had) and `folders` (those of the client's
    that no file brings along). The answer: `unknown_rules`; or `tree`,
    `ancestor`, `same` (the client's tree), `changed_only`, `staged` (how many bytes a sync that was cut
    left of which digest) and a body, for which see `_packed`.
    """
    workdir = WorkDir(str(arguments["workdir"]))
    try:
        workdir.ledger.check(arguments["marker"])
    except Foreign as exc:
        return {"foreign": str(exc)}, b""
    view = _view(workdir, arguments)
    if view is None:
        return {"unknown_rules": True}, b""
    survey = workdir.survey(view)
    found = survey.tree
    same = found == arguments.get("tree")
    if same:
        workdir.agree(survey)
        workdir.ledger.offered.clear()
    unsettled = workdir.unsettled(survey, _told(arguments))
    answer = _compared(survey, found, unsettled, workdir.staged(), arguments)
    workdir.keep_hashes()
    return answer


def push(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Apply the changes in the body, if all is as the client believes; else answer as `compare` does.

    Arguments: those of `compare`, whose `ancestor` must be what both sides last had and what is there
    now. The answer is `apply`'s, or that of `compare`.
    """
    path = str(arguments["workdir"])
    try:
        ledger = Ledger(path)
        ledger.check(arguments["marker"])
        if not os.path.isdir(ledger.path):
            return compare(arguments, b"")
        with ledger.locked(LOCK_TIMEOUT_S):
            workdir = WorkDir(path)
            view = _view(workdir, arguments)
            if view is None:
                return {"unknown_rules": True}, b""
            survey = workdir.survey(view)
            unsettled = workdir.unsettled(survey, _told(arguments))
            asks = unsettled or survey.offered
            if asks or not survey.tree == survey.ancestor == arguments.get("ancestor"):
                return _compared(survey, survey.tree, unsettled, workdir.staged(), arguments)
            return _applied(workdir, changes.unpack_body(body), view, survey)
    except Foreign as exc:
        return {"foreign": str(exc)}, b""


def apply(arguments: Dict[str, Any], upload: Upload) -> Answer:
    """Apply a stream of changes; see `agent.changes`.

    Arguments: those of `compare`, `check_only`, and `parts` (the digests of what is `staged` that the
    stream goes on with). The answer: `failures` (path, kind, detail), the
    hash of the `tree` that is there now and of the `ancestor`; or `foreign`, or `stopped` with the
    reason.
    """
    path = str(arguments["workdir"])
    with _Watchdog(STALL_S) as watchdog:
        return _apply(path, arguments, lambda: watchdog.guard(upload.next_frame))


def fetch(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Send files; a stream as in `agent.changes`, in the order in which they are wanted.

    Arguments: `workdir`, `marker`. The body: compressed JSON lines, each `[path, fingerprint, how much
    of it is there already, signature of what it replaces or null]`. A file that is another by now comes
    as `forget`.
    """
    workdir = WorkDir(str(arguments["workdir"]))
    try:
        workdir.ledger.check(arguments["marker"])
    except Foreign as exc:
        yield {"foreign": str(exc)}, b""
        return
    wants = (json.loads(line) for line in zlib.decompress(body).splitlines())
    with workdir.ledger.offering() as offering:
        steps = (_offered(workdir, want, offering) for want in wants)
        yield from changes.pack(steps, workdir.read)


def _offered(workdir: WorkDir, want: List[Any], offering: Callable[[Change], None]) -> Change:
    change = workdir.offer(*want)
    if change.op != changes.FORGET:
        offering(change)
    return change


def find(arguments: Dict[str, Any], body: bytes) -> Answer:
    """What lies at a path of the work dir, ignored or not.

    Arguments: `workdir`, `marker`, `path`. The answer's body is `compare`'s, all of it as outputs.
    """
    workdir = WorkDir(str(arguments["workdir"]))
    try:
        workdir.ledger.check(arguments["marker"])
    except Foreign as exc:
        return {"foreign": str(exc)}, b""
    survey = workdir.look_at(tree.check_name(str(arguments["path"])))
    workdir.keep_hashes()
    return {"changed_only": True}, _packed(survey, [], changed_only=True, all_outputs=True)


def _apply(path: str, arguments: Dict[str, Any], next_frame: Callable[[], changes.Frame]) -> Answer:
    check_only = bool(arguments.get("check_only"))
    unpacker = changes.Unpacker(next_frame, contents=not check_only)
    try:
        if check_only:
            workdir = WorkDir(path)
            workdir.ledger.check(arguments["marker"])
            failures = workdir.check(unpacker)
            return {"failures": [list(failure) for failure in failures]}, b""
        os.makedirs(path, exist_ok=True)
        ledger = Ledger(path)
        ledger.claim(arguments["marker"])
        with ledger.locked(LOCK_TIMEOUT_S):
            workdir = WorkDir(path)
            view = _view(workdir, arguments) or View()
            return _applied(workdir, unpacker, view, None, arguments.get("parts", ()))
    except Foreign as exc:
        return {"foreign": str(exc)}, b""


def _applied(
    workdir: WorkDir,
    unpacker: changes.Unpacker,
    view: View,
    before: Optional[Survey],
    parts: Sequence[str] = (),
) -> Answer:
    """Apply the stream, under the lock. With `before` what is there was as both sides last had it."""
    try:
        failures = workdir.apply(unpacker, parts)
    except Stopped as exc:
        with contextlib.suppress(OSError):
            workdir.ledger.save()  # Where that is impossible, too, the journal says the same.
        return {"stopped": str(exc)}, b""
    crash_point("agent.applied")
    workdir.ledger.offered.clear()
    if before is not None and not failures:
        found = ancestor = before.ancestor  # The same dictionary, changed by what was applied.
    else:
        survey = workdir.survey(view._replace(outputs=False))
        found, ancestor = survey.tree, survey.ancestor
    workdir.ledger.save()
    crash_point("agent.saved")
    rows = [list(failure) for failure in failures]
    return {"failures": rows, "tree": found, "ancestor": ancestor}, b""


def _view(workdir: WorkDir, arguments: Dict[str, Any]) -> Optional[View]:
    """How the client wants the work dir looked at; None when that takes rules that are not known."""
    text = arguments.get("rules_text")
    if text is not None:
        workdir.ledger.keep_rules(str(text))
        found: Optional[rules.Rules] = rules.from_document(str(text))
    else:
        found = workdir.ledger.rules(arguments.get("rules"))
    if found is None:
        return None
    limit = arguments.get("max_bytes")
    return View(found, tree.Limits(limit, limit), bool(arguments.get("outputs")))


def _told(arguments: Dict[str, Any]) -> List[str]:
    """The folders that the client has and that no file brings along."""
    return [str(path) for path in arguments.get("folders", [])]


def _compared(
    survey: Survey,
    found: str,
    folders: List[List[Any]],
    staged: Dict[str, int],
    arguments: Dict[str, Any],
) -> Answer:
    ancestor = survey.ancestor
    answer = {
        "tree": found,
        "ancestor": ancestor,
        "same": found == arguments.get("tree"),
        "changed_only": ancestor == arguments.get("ancestor"),
    }
    if staged:
        answer["staged"] = staged
    brings = any(survey.brought.get(e.path) != e.fingerprint for e in survey.outputs)
    if answer["same"] and not (brings or survey.problems or folders or survey.offered):
        return answer, b""
    return answer, _packed(survey, folders, changed_only=bool(answer["changed_only"]))


def _packed(
    survey: Survey, folders: List[List[Any]], *, changed_only: bool, all_outputs: bool = False
) -> bytes:
    """The survey as compressed JSON lines `[what, rows]`.

    `files`: `[path, fingerprint both sides last had, fingerprint now]`, "" for nothing and "?" for what
    cannot be told; `entries`: those that are not as both sides last had them; `outputs`: `[fingerprint
    that was brought, entry]` of those that are not as they were brought; `folders`: see
    `folders.unsettled`; `offered`: `[path, fingerprint]` of what may be there from a sync that was cut;
    `problems`: `[path, reason]`.
    With `changed_only` files that are as both sides last had them are left out; with `all_outputs`
    outputs that are as they were brought are not.
    """
    packer = zlib.compressobj(1)
    pieces = []
    for what, rows in (
        ("files", _file_rows(survey, changed_only)),
        ("entries", _entry_rows(survey)),
        ("outputs", _output_rows(survey, all_outputs)),
        ("folders", iter(folders)),
        ("offered", iter(sorted(survey.offered.items()))),
        ("problems", iter(sorted(set(survey.problems)))),
    ):
        # Piece by piece, so that a large tree is never in memory as text.
        while True:
            piece = list(itertools.islice(rows, _ROWS_PER_PIECE))
            if not piece:
                break
            line = json.dumps([what, piece], separators=(",", ":")) + "\n"
            pieces.append(packer.compress(line.encode("ascii")))
    pieces.append(packer.flush())
    return b"".join(pieces)


def _file_rows(survey: Survey, changed_only: bool) -> Iterator[List[str]]:
    now = survey.fingerprints
    for path in sorted({*survey.baseline, *now}):
        placed = survey.baseline.get(path, changes.NOTHING)
        found = changes.OTHER if path in survey.hidden else changes.NOTHING
        found = now.get(path, found)
        if found != placed or not changed_only:
            yield [path, placed, found]


def _entry_rows(survey: Survey) -> Iterator[List[Any]]:
    for entry in survey.entries:
        # A link has an entry even when it is unchanged.
        is_asked = entry.path in survey.offered
        if is_asked or survey.baseline.get(entry.path) != entry.fingerprint:
            yield tree.entry_to_row(entry)


def _output_rows(survey: Survey, all_of_them: bool) -> Iterator[List[Any]]:
    for entry in survey.outputs:
        brought = survey.brought.get(entry.path, changes.NOTHING)
        if all_of_them or brought != entry.fingerprint:
            yield [brought, tree.entry_to_row(entry)]


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
