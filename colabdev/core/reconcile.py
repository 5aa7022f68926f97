"""What a sync has to do, from what is here, what is there, and what both sides last had. Pure.

Two-way-safe: what changed on one side goes to the other, an edit wins against a deletion, and what
changed on both is left alone on both and reported. CONTRIBUTING.md has the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from colabdev.agent import changes
from colabdev.agent.changes import NOTHING, OTHER, Change
from colabdev.agent.tree import FILE, Entry
from colabdev.errors import UsageError
from colabdev.models import Absence

EMPTIED_FROM = 2
HALVED_FROM = 10
_COPIED_FROM_BYTES = 64


class Prefer(Enum):
    """Whose version is taken where both sides changed."""

    NEITHER = ""
    LOCAL = "local"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Mode:
    """How far a sync goes."""

    prefer: Prefer = Prefer.NEITHER
    one_way: bool = False
    """Nothing comes here; what was edited there is a conflict."""
    mirror: bool = False
    """One way, and what is not here goes there, too."""


TWO_WAY = Mode()


_CHOICES = {choice.value: choice for choice in (Prefer.LOCAL, Prefer.REMOTE)}


def choose_mode(prefer: str | None, *, one_way: bool, mirror: bool) -> Mode:
    """The mode that was typed; `UsageError` when its words do not go together."""
    try:
        chosen = Prefer.NEITHER if prefer is None else _CHOICES[prefer]
    except KeyError:
        raise UsageError(
            f"--prefer takes local or remote, not {prefer!r}", hint="colabdev sync --prefer local"
        ) from None
    if mirror and not one_way:
        raise UsageError(
            "--delete makes the runtime a mirror of this folder, which is one way",
            hint="colabdev sync --one-way --delete --dry-run lists what would go",
        )
    if one_way and chosen is Prefer.REMOTE:
        raise UsageError(
            "--one-way takes nothing from the runtime, so --prefer remote says nothing",
            hint="leave one of them out",
        )
    return Mode(chosen, one_way=one_way, mirror=mirror)


class RemoteFile(NamedTuple):
    """A file on the runtime, by fingerprint: as both sides last had it, and as it is now."""

    placed: str
    now: str


ABSENT = RemoteFile(NOTHING, NOTHING)


@dataclass(frozen=True, slots=True)
class Remote:
    """The runtime's side."""

    files: Mapping[str, RemoteFile]
    """Those that both sides had, and those that are new there."""
    entries: Mapping[str, Entry]
    """Those that exist and are not as both sides last had them."""


@dataclass(frozen=True, slots=True)
class Action:
    """A change and why it is made."""

    change: Change
    reason: str
    here: bool = False
    """It is made on this computer."""
    output: bool = False
    """It is about an output, which is no part of the project."""
    quiet: bool = False
    """Only what is so already is written down; nobody is told."""

    @property
    def op(self) -> str:
        """The word for it: what is done here is `receive` or `remove`."""
        if self.here and self.change.op not in changes.FOLDER_OPS:
            return "remove" if self.change.op == changes.DELETE else "receive"
        return changes.SEND if self.change.op == changes.PATCH else self.change.op

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
    """What is to be done: first here, then there, each in this order."""

    here: tuple[Action, ...]
    there: tuple[Action, ...]
    conflicts: tuple[Conflict, ...]
    unchanged: int
    guard: str
    """Why nobody should do it unasked; "" when nothing speaks against it."""


def plan_sync(
    local: Mapping[str, Entry],
    remote: Remote,
    absences: Mapping[str, Absence],
    mode: Mode,
    *,
    replaced: bool = False,
) -> Plan:
    """The plan that makes both sides equal.

    `absences` says of each of the runtime's paths that is not in `local` why that is; `replaced` that
    the project's folder is another one than last time.
    """
    here: list[Action] = []
    there: list[Action] = []
    conflicts: list[Conflict] = []
    for path in _differing(local, remote):
        file = remote.files.get(path, ABSENT)
        side = _Path(path, local.get(path), file, remote.entries.get(path))
        step = side.step(absences.get(path, Absence.GONE), mode)
        if isinstance(step, Conflict):
            conflicts.append(step)
        elif step is not None:
            (here if step.here else there).append(step)
    touched = {step.path for step in [*here, *there]} | {c.path for c in conflicts}
    return Plan(
        here=tuple(_in_order(_copied(here, _places(local)))),
        there=tuple(_in_order(_copied(there, _places_there(remote)))),
        conflicts=tuple(conflicts),
        unchanged=len(local) - sum(path in local for path in touched),
        guard=_guard(local, remote, here, there, replaced=replaced),
    )


def _differing(local: Mapping[str, Entry], remote: Remote) -> list[str]:
    """The paths, sorted, but for those that are on both sides what both last had: nearly all."""
    found = [path for path in remote.files if path not in local]
    for path, entry in local.items():
        file = remote.files.get(path, ABSENT)
        if not file.placed == file.now == entry.fingerprint:
            found.append(path)
    return sorted(found)


@dataclass(frozen=True, slots=True)
class _Path:
    """One path on both sides."""

    path: str
    entry: Entry | None
    """Here."""
    file: RemoteFile
    there: Entry | None
    """There, when that is not as both sides last had it."""

    @property
    def wanted(self) -> str:
        return self.entry.fingerprint if self.entry is not None else NOTHING

    def step(self, absence: Absence, mode: Mode) -> Action | Conflict | None:
        if self.entry is None and absence is not Absence.GONE:
            ignored = absence is Absence.IGNORED and self.file.placed != NOTHING
            return self._forget("ignored now; stays on the runtime") if ignored else None
        if self.file.now == OTHER:
            return None  # Nobody knows what is there; that is a problem, and told as one.
        if self.file.now == self.wanted:
            return self._agree()
        return self._changed(mode)

    def _changed(self, mode: Mode) -> Action | Conflict | None:
        if self.file.now == self.file.placed:
            return self._up()
        if mode.one_way:
            return self._one_way(mode)
        if self.wanted == self.file.placed:
            return self._down()
        return self._both_changed(mode)

    def _agree(self) -> Action | None:
        if self.file.placed == self.wanted:
            return None
        if self.entry is None:
            return self._forget("deleted on both sides")
        change = Change(changes.KEEP, self.path, self.wanted, self.entry)
        return Action(change, "the same on both sides")

    def _both_changed(self, mode: Mode) -> Action | Conflict:
        if mode.prefer is Prefer.LOCAL:
            return self._up("preferred to the one there")
        if mode.prefer is Prefer.REMOTE:
            return self._down("preferred to the one here")
        # A deletion loses nothing to an edit that is kept; the other way round the edit would be lost.
        if self.entry is None:
            return self._down("edited there, after it was deleted here")
        if self.file.now == NOTHING:
            return self._up("edited here, after it was deleted there")
        return self._conflict()

    def _one_way(self, mode: Mode) -> Action | Conflict | None:
        if self.entry is None and self.file.placed == NOTHING and not mode.mirror:
            return None
        if self.file.now == NOTHING:
            return self._up("missing on the runtime")
        if mode.mirror or mode.prefer is Prefer.LOCAL:
            return self._up("preferred to the one there" if self.entry else "not here")
        return self._conflict()

    def _up(self, reason: str = "") -> Action:
        now = self.file.now
        if self.entry is None:
            if now == NOTHING:
                return self._forget("deleted on both sides")
            return Action(Change(changes.DELETE, self.path, now), reason or "deleted here")
        op = changes.op_to_put(self.entry, now)
        if op == changes.CHMOD:
            word = "made executable" if self.entry.executable else "not executable any more"
        else:
            word = "new" if now == NOTHING else "edited"
        return Action(Change(op, self.path, now, self.entry), reason or word)

    def _down(self, reason: str = "") -> Action:
        if self.there is None:
            change = Change(changes.DELETE, self.path, self.wanted)
            return Action(change, reason or "deleted there", here=True)
        op = changes.op_to_put(self.there, self.wanted)
        if op == changes.CHMOD:
            word = "made executable" if self.there.executable else "not executable any more"
        else:
            word = "new" if self.wanted == NOTHING else "edited"
        change = Change(op, self.path, self.wanted, self.there)
        return Action(change, reason or f"{word} there", here=True)

    def _forget(self, reason: str) -> Action:
        return Action(Change(changes.FORGET, self.path, self.file.now), reason)

    def _conflict(self) -> Conflict:
        return Conflict(
            self.path,
            _word(self.wanted, self.file.placed),
            _word(self.file.now, self.file.placed, new="created"),
        )


def _word(now: str, placed: str, new: str = "new") -> str:
    if now == placed:
        return "unchanged"
    if now == NOTHING:
        return "deleted"
    return new if placed == NOTHING else "edited"


# --- copies of what is there already ------------------------------------------------------------


def _places(local: Mapping[str, Entry]) -> Mapping[str, str]:
    """A path for each content."""
    return {entry.digest: path for path, entry in local.items() if entry.kind == FILE}


def _places_there(remote: Remote) -> Mapping[str, str]:
    return {
        file.now[2:]: path for path, file in remote.files.items() if file.now.startswith(FILE[0])
    }


def _copied(actions: Sequence[Action], places: Mapping[str, str]) -> Iterable[Action]:
    """The actions, with a copy in place of each content that stands at another path, and goes on to
    stand there until it was copied."""
    put = {action.path for action in actions if action.change.op != changes.DELETE}
    gone = put | _making_room(actions)
    for action in actions:
        entry = action.change.entry
        if action.change.op != changes.SEND or entry is None or entry.size < _COPIED_FROM_BYTES:
            yield action
            continue
        source = places.get(entry.digest)
        if source is None or source in gone:
            yield action
            continue
        change = action.change._replace(op=changes.COPY, source=source)
        yield replace(action, change=change, reason=f"{action.reason}; same as {source!r}")


def _in_order(actions: Iterable[Action]) -> Iterable[Action]:
    """What must make room goes first, copies before their sources go, other deletions last: a rename
    is never a gap."""
    listed = list(actions)
    making_room = _making_room(listed)

    def rank(action: Action) -> int:
        if action.change.op == changes.DELETE:
            return 0 if action.path in making_room else 3
        return 1 if action.change.op == changes.COPY else 2

    return sorted(listed, key=rank)


def _making_room(actions: Sequence[Action]) -> set[str]:
    """The deletions of what stands where something is put, as its folder or below it."""
    put = {action.path for action in actions if action.change.op in changes.PUTS}
    folders = {folder for path in put for folder in _folders_of(path)}
    return {
        action.path
        for action in actions
        if action.change.op == changes.DELETE
        and (action.path in folders or any(folder in put for folder in _folders_of(action.path)))
    }


def _folders_of(path: str) -> Iterable[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


# --- guard --------------------------------------------------------------------------------------


def _guard(
    local: Mapping[str, Entry],
    remote: Remote,
    here: Sequence[Action],
    there: Sequence[Action],
    *,
    replaced: bool,
) -> str:
    """Why the deletions look like an accident, if they do. What only moved is not counted."""
    if not _deletions([*here, *there]):
        return ""
    owned = {path for path, file in remote.files.items() if file.placed != NOTHING}
    contents = {entry.digest for entry in local.values()}
    lost = [step for step in _deletions(there) if step.change.expected[2:] not in contents]
    at_stake = owned | {step.path for step in lost}
    standing = sum(remote.files[path].now != NOTHING for path in at_stake)
    emptied = standing >= EMPTIED_FROM and not any(path in local for path in owned)
    edited = [s for s in there if s.change.op in changes.PUTS and s.change.expected != NOTHING]
    other = replaced and 2 * (len(lost) + len(edited)) > standing >= EMPTIED_FROM
    if lost and (emptied or other or _is_most(len(lost), standing)):
        return _sentence(lost, f"{standing} files that sync put there", "on the runtime")
    contents = {file.now[2:] for file in remote.files.values()}
    lost = [step for step in _deletions(here) if step.change.expected[2:] not in contents]
    emptied = len(owned) >= EMPTIED_FROM and all(remote.files[p].now == NOTHING for p in owned)
    if lost and (emptied or _is_most(len(lost), len(local))):
        return _sentence(lost, f"{len(local)} files of the project", "here")
    return ""


def _deletions(actions: Sequence[Action]) -> list[Action]:
    return [action for action in actions if action.change.op == changes.DELETE]


def _is_most(lost: int, all_of_them: int) -> bool:
    return all_of_them >= HALVED_FROM and 2 * lost > all_of_them


def _sentence(lost: Sequence[Action], of: str, where: str) -> str:
    shown = ", ".join(repr(step.path) for step in lost[:3]) + (", …" if len(lost) > 3 else "")
    return f"{len(lost)} of the {of} would be deleted {where} ({shown})"
