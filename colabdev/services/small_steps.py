"""Small steps between two whole syncs: an edit goes to the other side without a look at all files.

What both sides had after a whole sync that left nothing to do is kept in mind, and what was told of
changes since then. A small step does what a whole sync would do for these paths; wherever that may be
more, it does nothing, and a whole sync is made.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from colabdev.agent import changes, closeup, rules, wire
from colabdev.agent.changes import NOTHING, Change
from colabdev.agent.tree import FILE, Entry, hash_fingerprints
from colabdev.core.portability import unportable
from colabdev.core.reconcile import TWO_WAY, Action, Remote, RemoteFile, plan_sync
from colabdev.models import KnownSide
from colabdev.ports import SyncedProject
from colabdev.services.sync_report import SyncReport
from colabdev.services.watch_line import WatchLine

_OPS_HERE = (changes.SEND, changes.MAKE_LINK, changes.CHMOD, changes.DELETE)


@dataclass(slots=True)
class _Common:
    """What both sides have."""

    side: KnownSide
    marks: dict[str, str]
    """Fingerprints by path."""


class SmallSteps:
    """The small steps that follow one whole sync."""

    def __init__(self, project: SyncedProject, runtime: str, workdir: str, line: WatchLine) -> None:
        self._project = project
        self._runtime = runtime
        self._workdir = workdir
        self._line = line
        self._told_bytes = line.wire_bytes
        self.is_unsaved = False
        """What was done is not yet remembered for later syncs: they would only take longer."""

    @cached_property
    def _common(self) -> _Common | None:
        """None when the sync left the sides different, or nobody knows."""
        side = self._project.memory.load(self._runtime)
        if side is None or not side.ancestor == side.tree == side.local:
            return None
        marks = self._project.memory.ancestor(self._runtime, side)
        return _Common(side, dict(marks)) if marks is not None else None

    def send(self, paths: Collection[str]) -> SyncReport | None:
        """Bring there what changed at these paths here; None when a whole sync has to."""
        begun = time.monotonic()
        common = self._common
        if common is None:
            return None
        found = self._project.tree.rescan(paths, common.side.folders)
        if found is None:
            return None
        actions = _plan(found, common.marks)
        if _is_too_much([action.change for action in actions], common.marks):
            return None
        return self._report(begun, actions) if self._push(actions) else None

    def receive(self, body: bytes) -> SyncReport | None:
        """Make here what the agent says was done there; None when a whole sync has to."""
        begun = time.monotonic()
        common = self._common
        if common is None or not body:
            return None
        try:
            steps = list(changes.unpack_body(body).changes())
            if not self._may_be_made(steps, common.marks):
                return None
            if steps and self._project.tree.write(changes.unpack_body(body)):
                return None
        except (ValueError, TypeError, wire.WireError):
            return None
        actions = [Action(step, _reason_there(step), here=True) for step in steps]
        notes = [Action(_noted(step), "") for step in steps]
        return self._report(begun, actions) if self._push(notes) else None

    def save(self) -> None:
        """Remember what was done, so that the next sync has nothing to ask."""
        common = self._common
        if common is not None:
            tree = hash_fingerprints(common.marks)
            side = replace(common.side, ancestor=tree, tree=tree, local=tree)
            self._project.memory.save(self._runtime, side, common.marks)
        self.is_unsaved = False

    def _push(self, actions: Sequence[Action]) -> bool:
        """Have them made, or noted, there; whether all of them were."""
        common = self._common
        assert common is not None, "nothing is planned without"
        steps = [action.change for action in actions]
        if steps and self._line.push(changes.pack_body(steps, self._project.tree.read)) != []:
            return False
        for step in steps:
            if step.fingerprint == NOTHING:
                common.marks.pop(step.path, None)
            else:
                common.marks[step.path] = step.fingerprint
        self.is_unsaved = self.is_unsaved or bool(steps)
        return True

    def _may_be_made(self, steps: Sequence[Change], marks: Mapping[str, str]) -> bool:
        """Whether the changes are of those that were to be expected, and need nobody to look at them."""
        limit = self._project.max_bytes
        return (
            all(step.op in _OPS_HERE for step in steps)
            and all(marks.get(step.path, NOTHING) == step.expected for step in steps)
            and not any(rules.is_rule_file(step.path) for step in steps)
            and not any(step.entry is not None and step.entry.size > limit for step in steps)
            and not unportable([step.path for step in steps if step.entry is not None], marks)
            and not _is_too_much(steps, marks)
        )

    def _report(self, begun: float, actions: Sequence[Action]) -> SyncReport:
        common = self._common
        assert common is not None, "nothing is reported without"
        before, self._told_bytes = self._told_bytes, self._line.wire_bytes
        return SyncReport(
            runtime=self._runtime,
            workdir=self._workdir,
            tree_hash="",
            sent_tree="",
            actions=tuple(actions),
            unchanged=len(common.marks)
            - sum(action.change.op in changes.PUTS for action in actions),
            wire_bytes=self._told_bytes - before,
            seconds=time.monotonic() - begun,
        )


def _plan(found: Mapping[str, Entry | None], marks: Mapping[str, str]) -> Sequence[Action]:
    """What a whole sync would do there, where nothing changed on the other side."""
    local = {path: entry for path, entry in found.items() if entry is not None}
    new = {entry.digest: entry.size for path, entry in local.items() if path not in marks}
    local.update((entry.path, entry) for entry in _sources(new, marks) if entry.path not in found)
    files = {
        path: RemoteFile(marks[path], marks[path]) for path in {*local, *found} if path in marks
    }
    return plan_sync(local, Remote(files, {}), {}, TWO_WAY).there


def _sources(sizes: Mapping[str, int], marks: Mapping[str, str]) -> Iterable[Entry]:
    """The files of both sides that have these contents, sizes by digest: they are copied there."""
    for path, mark in marks.items() if sizes else ():
        kind, digest = mark[:1], mark[2:]
        if digest in sizes and kind == FILE[0]:
            yield Entry(path, FILE, mark[1] == "x", sizes[digest], 0, digest)


def _is_too_much(steps: Sequence[Change], marks: Mapping[str, str]) -> bool:
    """Whether a whole sync would do better, or might halt: so much went, or is to be sent."""
    gone = sum(step.op == changes.DELETE for step in steps)
    size = sum(step.content_bytes for step in steps)
    return size > closeup.MAX_BYTES or (gone > 0 and 2 * gone >= len(marks))


def _noted(step: Change) -> Change:
    if step.entry is None:
        return Change(changes.FORGET, step.path, NOTHING)
    return Change(changes.KEEP, step.path, step.fingerprint, step.entry)


def _reason_there(step: Change) -> str:
    if step.entry is None:
        return "deleted there"
    return "new there" if step.expected == NOTHING else "edited there"
