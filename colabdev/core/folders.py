"""What becomes of empty folders in a sync; see `agent.folders`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from colabdev.agent import changes
from colabdev.agent.changes import NOTHING, Change
from colabdev.agent.folders import ABSENT, EMPTY
from colabdev.core.reconcile import Action, Mode
from colabdev.late_dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FolderPair:
    """One folder on both sides: how it is, and whether both had it last."""

    path: str
    placed: bool
    here: str
    there: str
    blocked: bool = False
    """A file stands on one side where the folder, or one above it, would have to be."""

    def is_wanted(self, mode: Mode) -> bool | None:
        """Whether both sides are to have it; None when it is left alone."""
        here, there = self.here != ABSENT, self.there != ABSENT
        if self.blocked:
            return False
        if mode.one_way:
            return here if here or self.placed or mode.mirror else None
        return here and there if self.placed else here or there


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """What is to be done about folders, on each side."""

    here: tuple[Action, ...] = ()
    there: tuple[Action, ...] = ()
    kept: tuple[str, ...] = ()
    """Those that both sides have in the end."""

    def around(self, files: Sequence[Action], *, here: bool) -> list[Action]:
        """What is done about files on one side, and about folders.

        Removals go first: they may make room, and only take what is empty, the deepest first. Where
        files are deleted the folders that they emptied go with them, so those that are kept are made
        again in the end.
        """
        steps = self.here if here else self.there
        removals = [step for step in steps if step.change.op == changes.RMDIR]
        removals.sort(key=lambda step: step.path, reverse=True)
        made = [step for step in steps if step.change.op == changes.MKDIR]
        if removals or any(action.change.op == changes.DELETE for action in files):
            paths = {step.path for step in made}
            made += [_kept(path, here=here) for path in self.kept if path not in paths]
        return [*removals, *files, *made]


def plan_folders(pairs: Iterable[FolderPair], told: Iterable[str], mode: Mode) -> FolderPlan:
    """The plan for the folders that are not settled; `told` are those that are here."""
    here: list[Action] = []
    there: list[Action] = []
    kept = set(told)
    for pair in pairs:
        wanted = pair.is_wanted(mode)
        (kept.add if wanted else kept.discard)(pair.path)
        if wanted is None:
            continue
        there.append(_step(pair.path, pair.there, wanted=wanted, here=False))
        if wanted != (pair.here != ABSENT):
            here.append(_step(pair.path, pair.here, wanted=wanted, here=True))
    return FolderPlan(tuple(here), tuple(there), tuple(sorted(kept)))


def upward(path: str) -> Iterable[str]:
    """The path, and every folder above it."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def _kept(path: str, *, here: bool) -> Action:
    return Action(Change(changes.MKDIR, path, NOTHING), "kept", here=here, quiet=True)


def _step(path: str, state: str, *, wanted: bool, here: bool) -> Action:
    """Quiet when only what is so already is written down, or what lies in it makes it stay."""
    other = "there" if here else "here"
    change = Change(changes.MKDIR if wanted else changes.RMDIR, path, NOTHING)
    if wanted:
        reason = "new folder there" if here else "new folder"
        return Action(change, reason, here=here, quiet=state != ABSENT)
    return Action(change, f"folder deleted {other}", here=here, quiet=state != EMPTY)
