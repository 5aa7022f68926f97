"""What a sync did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, replace

from colabdev.agent import changes
from colabdev.agent.tree import Problem
from colabdev.core.reconcile import Action, Conflict

_NOTES = (changes.KEEP, changes.FORGET, changes.BROUGHT, *changes.FOLDER_OPS)
"""What is only written down."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did, or with `dry_run` would do, and what it could not."""

    runtime: str
    workdir: str
    tree_hash: str
    """The hash of the project's files in the work dir now."""
    sent_tree: str
    """The hash of what they should be after this sync; equal when all is well."""
    actions: tuple[Action, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    problems: tuple[Problem, ...] = ()
    undone: tuple[str, ...] = ()
    """The files that one side did not take; why is among the problems."""
    unchanged: int = 0
    wire_bytes: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    guard: str = ""
    """Why the same without `dry_run` would halt."""

    @property
    def sent(self) -> tuple[Action, ...]:
        """The files and links that were put there."""
        return tuple(a for a in self.actions if not a.here and a.change.op in changes.PUTS)

    @property
    def new_there(self) -> tuple[str, ...]:
        """Those of them that were not there before."""
        return tuple(a.path for a in self.sent if a.change.expected == changes.NOTHING)

    @property
    def received(self) -> tuple[Action, ...]:
        """The files and links that were put here."""
        return tuple(a for a in self.actions if a.here and a.change.op in changes.PUTS)

    @property
    def sent_bytes(self) -> int:
        return sum(action.content_bytes for action in self.sent)

    @property
    def received_bytes(self) -> int:
        return sum(action.content_bytes for action in self.received)

    @property
    def deleted(self) -> int:
        """On either side."""
        return sum(action.change.op == changes.DELETE for action in self.actions)

    @property
    def is_complete(self) -> bool:
        """Whether everything was done."""
        return not self.conflicts and not self.problems and not self.guard

    def after(self, first: SyncReport) -> SyncReport:
        """This one and the one of the sync before it, as one."""
        return replace(
            self,
            actions=(*first.actions, *self.actions),
            wire_bytes=first.wire_bytes + self.wire_bytes,
            seconds=first.seconds + self.seconds,
        )


def is_note(action: Action) -> bool:
    """Whether nothing is done but writing down what both sides have."""
    return action.change.op in _NOTES
