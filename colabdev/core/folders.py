"""What becomes of empty folders in a sync; see `agent.folders`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from colabdev.agent import changes
from colabdev.agent.changes import NOTHING, Change
from colabdev.agent.folders import ABSENT, EMPTY
from colabdev.core.reconcile import Action, Mode


@dataclass(frozen=True, slots=True)
class FolderPair:
    """One folder on both sides: how it is, and whether both had it last."""

    path: str
    placed: bool
    here: str
    there: str

    def is_wanted(self, mode: Mode) -> bool | None:
        """Whether both sides are to have it; None when it is left alone."""
        here, there = self.here != ABSENT, self.there != ABSENT
        if mode.one_way:
            return here if here or self.placed or mode.mirror else None
        return here and there if self.placed else here or there


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """What is to be done about folders, on each side after all that is done about files."""

    here: tuple[Action, ...] = ()
    there: tuple[Action, ...] = ()
    kept: tuple[str, ...] = ()
    """Those that both sides have in the end."""

    def remade(self, actions: Sequence[Action], *, here: bool) -> Iterable[Action]:
        """Where files are deleted the folders that they emptied go with them; those that are kept are
        made again."""
        if any(action.change.op == changes.DELETE for action in actions):
            for path in self.kept:
                change = Change(changes.MKDIR, path, NOTHING)
                yield Action(change, "kept", here=here, quiet=True)


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
    return FolderPlan(_in_order(here), _in_order(there), tuple(sorted(kept)))


def _step(path: str, state: str, *, wanted: bool, here: bool) -> Action:
    """Quiet when only what is so already is written down, or what lies in it makes it stay."""
    other = "there" if here else "here"
    change = Change(changes.MKDIR if wanted else changes.RMDIR, path, NOTHING)
    if wanted:
        reason = "new folder there" if here else "new folder"
        return Action(change, reason, here=here, quiet=state != ABSENT)
    return Action(change, f"folder deleted {other}", here=here, quiet=state != EMPTY)


def _in_order(actions: Iterable[Action]) -> tuple[Action, ...]:
    """Removals first, the deepest first: they may take folders above with them that are wanted."""
    ordered = sorted(actions, key=lambda action: action.path, reverse=True)
    return tuple(sorted(ordered, key=lambda action: action.change.op == changes.MKDIR))
