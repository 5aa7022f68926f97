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
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

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
_FRESH_S = 5.0


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


class _Seen(NamedTuple):
    """A look at a work dir."""

    arguments: List[Any]
    """What decides what is seen."""
    time_s: float
    workdir: WorkDir
    view: View
    survey: Survey
    tree: str
    """The hash of what is there."""
    ancestor: str
    """The hash of what both sides last had."""


class Comparing:
    """Comparing work dirs for one client. What a comparison saw need not be looked for again by a push
    that follows it at once."""

    def __init__(self) -> None:
        self._last: Optional[_Seen] = None

    def compare(self, arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
        """How the project's files are there, beside what both sides last had.

        Arguments: `workdir`, `marker`, `rules` (the key of the project's rules; `rules_text` when the
        agent may not know them), `max_bytes`, `outputs` (whether they are looked for), `tree` (the
        client's own), `ancestor` (what it believes that both sides last had) and `folders` (those of
        the client's that no file brings along). The answer: `unknown_rules`; or `tree`,
        `ancestor`, `same` (the client's tree), `changed_only`, `staged` (how many bytes a sync that
        was cut left of which digest), `bare` (nothing is there, so no rules were asked for) and a body,
        for which see `_packed`.
        """
        self._last = None
        try:
            Ledger(str(arguments["workdir"])).check(arguments["marker"])
        except Foreign as exc:
            yield {"foreign": str(exc)}, b""
            return
        seen = self._look(arguments)
        if seen is None:
            yield {"unknown_rules": True}, b""
            return
        same = seen.tree == arguments.get("tree")
        if same:
            seen.workdir.agree(seen.survey)
            seen.workdir.ledger.offered.clear()
        yield _compared(seen, arguments)
        seen.workdir.keep_hashes()  # Answered already: nobody waits for this.
        self._last = None if same else seen  # What was agreed on is not what both had then.

    def push(self, arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
        """Apply the changes in the body, if all is as the client believes; else answer as `compare`
        does.

        Arguments: those of `compare`, whose `ancestor` must be what both sides last had and what is
        there now. The answer is `apply`'s, or that of `compare`.
        """
        try:
            ledger = Ledger(str(arguments["workdir"]))
            ledger.check(arguments["marker"])
            if not os.path.isdir(ledger.path):
                yield from self.compare(arguments, b"")
                return
            with ledger.locked(LOCK_TIMEOUT_S):
                seen = self._look(arguments)
                if seen is None:
                    yield {"unknown_rules": True}, b""
                    return
                asks = seen.workdir.unsettled(seen.survey, _told(arguments)) or seen.survey.offered
                if asks or not seen.tree == seen.ancestor == arguments.get("ancestor"):
                    yield _compared(seen, arguments)
                    return
                steps = changes.unpack_body(body)
                yield _applied(seen.workdir, steps, seen.view, seen.survey)
                with contextlib.suppress(OSError):  # The journal says the same.
                    _save(seen.workdir)
        except Foreign as exc:
            yield {"foreign": str(exc)}, b""

    def forget(self) -> None:
        """Let go of what was seen; it takes memory."""
        self._last = None

    def _look(self, arguments: Dict[str, Any]) -> Optional[_Seen]:
        """How the work dir is, or was a moment ago; None when that takes rules that are not known."""
        last, self._last = self._last, None
        if last is not None and _is_fresh(last, arguments):
            return last
        last = None  # It makes room for what is seen now.
        workdir = WorkDir(str(arguments["workdir"]))
        view = _view(workdir, arguments)
        if view is None and workdir.is_bare():
            view = View()
        if view is None:
            return None
        begun_s = time.monotonic()
        survey = workdir.survey(view)
        return _Seen(_deciding(arguments), begun_s, workdir, view, survey, *survey.hashes())


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


def offer(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Write down what the other side is about to make of its own of what is here: a mode, a link or a
    copy, for which it fetches nothing.

    Arguments: `workdir`, `marker`. The body: these changes, as in `agent.changes`.
    """
    ledger = Ledger(str(arguments["workdir"]))
    try:
        ledger.check(arguments["marker"])
    except Foreign as exc:
        return {"foreign": str(exc)}, b""
    with ledger.offering() as offering:
        for change in changes.unpack_body(body).changes():
            offering(change)
    return {}, b""


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
            answer = _applied(workdir, unpacker, view, None, arguments.get("parts", ()))
            if "stopped" not in answer[0]:
                _save(workdir)
            return answer
    except Foreign as exc:
        return {"foreign": str(exc)}, b""


def _applied(
    workdir: WorkDir,
    unpacker: changes.Unpacker,
    view: View,
    before: Optional[Survey],
    parts: Sequence[str] = (),
) -> Answer:
    """Apply the stream, under the lock; whoever calls saves what is ours then. With `before` what is
    there was as both sides last had it."""
    try:
        failures = workdir.apply(unpacker, parts)
    except Stopped as exc:
        with contextlib.suppress(OSError):
            workdir.ledger.save()  # Where that is impossible, too, the journal says the same.
        return {"stopped": str(exc)}, b""
    crash_point("agent.applied")
    workdir.ledger.offered.clear()
    if before is not None and not failures:
        found = ancestor = tree.hash_fingerprints(workdir.ledger.baseline)
    else:
        found, ancestor = workdir.survey(view._replace(outputs=False)).hashes()
    rows = [list(failure) for failure in failures]
    return {"failures": rows, "tree": found, "ancestor": ancestor}, b""


def _save(workdir: WorkDir) -> None:
    workdir.ledger.save()
    crash_point("agent.saved")


def _deciding(arguments: Dict[str, Any]) -> List[Any]:
    return [arguments.get(key) for key in ("workdir", "rules", "max_bytes", "outputs")]


def _is_fresh(seen: _Seen, arguments: Dict[str, Any]) -> bool:
    """Whether it was a moment ago, by the same eyes, and nobody wrote anything down since. What is
    changed is looked at again in any case, just before."""
    is_recent = time.monotonic() - seen.time_s < _FRESH_S
    is_same = seen.arguments == _deciding(arguments) and "rules_text" not in arguments
    return is_recent and is_same and seen.workdir.ledger.is_current()


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


def _compared(seen: _Seen, arguments: Dict[str, Any]) -> Answer:
    survey = seen.survey
    answer: Dict[str, Any] = {
        "tree": seen.tree,
        "ancestor": seen.ancestor,
        "same": seen.tree == arguments.get("tree"),
        "changed_only": seen.ancestor == arguments.get("ancestor"),
    }
    if seen.view.rules is None:
        answer["bare"] = True
    folders = seen.workdir.unsettled(survey, _told(arguments))
    staged = seen.workdir.staged()
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
        ("offered", _offer_rows(survey)),
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


def _offer_rows(survey: Survey) -> Iterator[List[str]]:
    for path, marks in sorted(survey.offered.items()):
        yield from ([path, mark] for mark in marks)


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
