"""Which outputs of a work dir a sync brings here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from colabdev.agent import changes
from colabdev.agent.changes import NOTHING, Change
from colabdev.agent.tree import FILE
from colabdev.core.reconcile import Action, Conflict, Prefer
from colabdev.services.sync_answers import Comparison


def outputs_to_bring(
    comparison: Comparison, prefer: Prefer, look: Callable[[str], str]
) -> tuple[Sequence[Action], Sequence[Conflict]]:
    """Outputs are brought that are here as they came, or not at all; `look` gives the fingerprint of
    what stands at a path here."""
    actions, conflicts = [], []
    for brought, entry in comparison.outputs:
        here = look(entry.path)
        untouched = here in (NOTHING, brought)
        if here == entry.fingerprint or (prefer is Prefer.LOCAL and not untouched):
            change = Change(changes.BROUGHT, entry.path, entry.fingerprint, entry)
            if brought != entry.fingerprint:
                actions.append(Action(change, "here already", output=True))
        elif untouched or prefer is Prefer.REMOTE:
            op = changes.SEND if entry.kind == FILE else changes.MAKE_LINK
            reason = "fetched" if here == NOTHING else "changed there"
            change = Change(op, entry.path, here, entry)
            actions.append(Action(change, reason, here=True, output=True))
        else:
            word = "edited" if brought else "another one"
            there = "unchanged" if brought == entry.fingerprint else "edited"
            conflicts.append(Conflict(entry.path, word, there))
    return actions, conflicts
