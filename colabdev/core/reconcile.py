"""What a sync has to do, from what is here, what is there, and what sync put there. Pure.

Sync owns only what it put there: a file on the runtime that is not as sync left it was edited by
somebody, and is reported instead of overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from colabdev.agent import changes
from colabdev.agent.changes import NOTHING, OTHER, Change
from colabdev.agent.tree import FILE, Entry
from colabdev.models import Absence

EMPTIED_FROM = 2
HALVED_FROM = 10


@dataclass(frozen=True, slots=True)
class OwnedFile:
    """A file on the runtime that sync put there, by fingerprint."""

    placed: str
    now: str


@dataclass(frozen=True, slots=True)
class Action:
    """A change and why it is made."""

    change: Change
    reason: str

    @property
    def op(self) -> str:
        return self.change.op

    @property
    def path(self) -> str:
        return self.change.path

    @property
    def content_bytes(self) -> int:
        return self.change.content_bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """A file that is left alone on both sides, and what happened to it on each."""

    path: str
    local: str
    remote: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in this order."""

    actions: tuple[Action, ...]
    conflicts: tuple[Conflict, ...]
    unchanged: int
    guard: str
    """Why nobody should do it unasked; "" when nothing speaks against it."""


def plan_up(
    local: Mapping[str, Entry],
    owned: Mapping[str, OwnedFile],
    absences: Mapping[str, Absence],
    *,
    prefer_local: bool = False,
) -> Plan:
    """The plan that makes the runtime's files equal the local ones.

    `absences` says of each owned path that is not in `local` why that is. With `prefer_local` what was
    edited there gives way to what is here.
    """
    actions: list[Action] = []
    conflicts: list[Conflict] = []
    for path in sorted({*local, *owned}):
        file = owned.get(path, OwnedFile(NOTHING, NOTHING))
        if path in local:
            step = _for_present(local[path], file)
        else:
            step = _for_absent(path, file, absences[path])
        if isinstance(step, Conflict) and prefer_local and file.now != OTHER:
            step = _for_preferred(path, local.get(path), file)
        if isinstance(step, Action):
            actions.append(step)
        elif isinstance(step, Conflict):
            conflicts.append(step)
    touched = {action.path for action in actions} | {conflict.path for conflict in conflicts}
    return Plan(
        actions=tuple(_in_order(actions)),
        conflicts=tuple(conflicts),
        unchanged=sum(path not in touched for path in local),
        guard=_guard(local, owned, actions),
    )


def _for_present(entry: Entry, file: OwnedFile) -> Action | Conflict | None:
    wanted = entry.fingerprint
    if file.now == wanted:
        if file.placed == wanted:
            return None
        return Action(Change(changes.KEEP, entry.path, wanted, entry), "the same on both sides")
    if file.now == NOTHING:
        reason = "new" if file.placed == NOTHING else "missing on the runtime"
        return Action(Change(_op_to_put(entry), entry.path, NOTHING, entry), reason)
    if file.now != file.placed:
        here = "unchanged" if file.placed == wanted else "edited"
        return Conflict(entry.path, here, _remote_word(file.now))
    if entry.kind == FILE and file.now[0] == "f" and file.now[2:] == entry.digest:
        reason = "made executable" if entry.executable else "not executable any more"
        return Action(Change(changes.CHMOD, entry.path, file.now, entry), reason)
    return Action(Change(_op_to_put(entry), entry.path, file.now, entry), "edited")


def _for_absent(path: str, file: OwnedFile, absence: Absence) -> Action | Conflict | None:
    if absence is Absence.UNKNOWN:
        return None
    if absence is Absence.IGNORED:
        return Action(Change(changes.FORGET, path, file.now), "ignored now; stays on the runtime")
    if file.now == NOTHING:
        return Action(Change(changes.FORGET, path, NOTHING), "deleted on both sides")
    if file.now != file.placed:
        return Conflict(path, "deleted", _remote_word(file.now))
    return Action(Change(changes.DELETE, path, file.now), "deleted here")


def _for_preferred(path: str, entry: Entry | None, file: OwnedFile) -> Action:
    if entry is None:
        return Action(Change(changes.DELETE, path, file.now), "deleted here, which is preferred")
    reason = f"preferred to the one that was {_remote_word(file.now)} there"
    return Action(Change(_op_to_put(entry), path, file.now, entry), reason)


def _op_to_put(entry: Entry) -> str:
    return changes.SEND if entry.kind == FILE else changes.MAKE_LINK


def _remote_word(fingerprint: str) -> str:
    return "a folder, or no file" if fingerprint == OTHER else "edited"


def _in_order(actions: Sequence[Action]) -> Iterable[Action]:
    """What must make room goes first, other deletions last: a rename is never a gap."""
    put = {action.path for action in actions if action.op in (changes.SEND, changes.MAKE_LINK)}
    folders = {folder for path in put for folder in _folders_of(path)}

    def rank(action: Action) -> int:
        if action.op != changes.DELETE:
            return 1
        in_the_way = action.path in folders or any(
            folder in put for folder in _folders_of(action.path)
        )
        return 0 if in_the_way else 2

    return sorted(actions, key=rank)


def _folders_of(path: str) -> Iterable[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _guard(
    local: Mapping[str, Entry], owned: Mapping[str, OwnedFile], actions: Sequence[Action]
) -> str:
    """Why the deletions look like an accident, if they do. What only moved is not counted."""
    contents = {entry.digest for entry in local.values()}
    lost = [
        action.path
        for action in actions
        if action.op == changes.DELETE and action.change.expected[2:] not in contents
    ]
    there = sum(file.now != NOTHING for file in owned.values())
    emptied = len(lost) >= 1 and there >= EMPTIED_FROM and not any(path in local for path in owned)
    halved = there >= HALVED_FROM and 2 * len(lost) > there
    if not emptied and not halved:
        return ""
    shown = ", ".join(repr(path) for path in lost[:3]) + (", …" if len(lost) > 3 else "")
    return f"{len(lost)} of the {there} files that sync put there would be deleted ({shown})"
