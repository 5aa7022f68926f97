"""What the runtime has of a project, as far as a comparison tells, and what it will have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from colabdev.agent import changes
from colabdev.agent.changes import NOTHING, OTHER
from colabdev.agent.tree import Entry
from colabdev.core.reconcile import ABSENT, Action, Plan, Remote, RemoteFile
from colabdev.services.sync_answers import Comparison


def remote_of(ancestor: Mapping[str, str], comparison: Comparison | None = None) -> Remote:
    """The runtime's side: as both sides last had it, but for what the comparison says."""
    files = {path: RemoteFile(mark, mark) for path, mark in ancestor.items()}
    if comparison is None:
        return Remote(files, {})
    return Remote(files | comparison.files, comparison.entries)


def with_arrived(remote: Remote, comparison: Comparison, local: Mapping[str, Entry]) -> Remote:
    """With what came here in a sync that was cut before the runtime wrote that down: it is what both
    sides last had, so that an edit of it on one side is no conflict."""
    files = dict(remote.files)
    for path, marks in comparison.offered.items():
        entry, file = local.get(path), files.get(path, ABSENT)
        is_told = file.now == NOTHING or path in remote.entries
        if entry is not None and entry.fingerprint in marks - {file.now} and is_told:
            files[path] = file._replace(placed=entry.fingerprint)
    return replace(remote, files=files)


def planned_marks(remote: Remote, plan: Plan) -> Mapping[str, str]:
    """The fingerprints that the runtime should have when all of the plan is done, by path."""
    marks = {
        path: file.now for path, file in remote.files.items() if file.now not in (NOTHING, OTHER)
    }
    for action in plan.there:
        if action.change.op != changes.FORGET:
            record_in(marks, action)
    return marks


def record_in(marks: dict[str, str], action: Action) -> None:
    """Make `marks` what it is after the action."""
    if action.change.entry is None:
        marks.pop(action.path, None)
    else:
        marks[action.path] = action.change.fingerprint
