"""A few changes between two sides that both watch: made, or told, without a look at all files.

It does for these paths what a whole sync would, and nothing where that would do more: then it is left to
a whole sync. The journal says what was done until somebody has the time to write the books anew.
"""

from __future__ import annotations

import contextlib
from typing import Collection, Dict, Iterator, List, Optional

from . import changes, closeup, tree
from .changes import NOTHING, Change
from .placing import Failure
from .workdir import WorkDir

_NOTES = (changes.KEEP, changes.FORGET)


class Doubt(Exception):
    """Only a whole sync tells what is to be done; the text says why."""


def take(workdir: WorkDir, body: bytes) -> List[Failure]:
    """Make the changes, under the lock. Doubt, and none of them is made, where the other side believes
    something else of what both last had."""
    for change in changes.unpack_body(body).changes():
        placed = workdir.ledger.baseline.get(change.path, NOTHING)
        if change.op not in _NOTES and placed != change.expected:
            raise Doubt("{!r} is not as it was believed to be".format(change.path))
    try:
        return workdir.apply(changes.unpack_body(body), goes_on=True)
    finally:
        workdir.ledger.is_read()


def tell(workdir: WorkDir, paths: Collection[str], max_bytes: Optional[int]) -> bytes:
    """What was done at these paths as changes for the other side, under the lock; empty when only a
    whole sync tells."""
    ledger = workdir.ledger
    found = closeup.look(workdir.path, paths, ledger.index, max_bytes, ledger.folders)
    if found is None:
        return b""
    steps = list(_steps(found, ledger.baseline))
    if sum(step.content_bytes for step in steps) > closeup.MAX_BYTES:
        return b""
    with ledger.offering() as offering:
        for step in steps:
            if step.entry is not None:
                offering(step)
    ledger.is_read()
    return changes.pack_body(steps, workdir.read)


def save(workdir: WorkDir) -> None:
    """Write down what only the journal says, if nobody else is at it."""
    ledger = workdir.ledger
    if ledger.changed:
        with contextlib.suppress(OSError), ledger.locked(wait_s=0):
            if ledger.is_current():
                ledger.save()
                ledger.is_read()


def _steps(found: Dict[str, Optional[tree.Entry]], baseline: Dict[str, str]) -> Iterator[Change]:
    for path, entry in sorted(found.items()):
        placed = baseline.get(path, NOTHING)
        if entry is None:
            if placed != NOTHING:
                yield Change(changes.DELETE, path, placed)
        elif entry.fingerprint != placed:
            yield Change(changes.op_to_put(entry, placed), path, placed, entry)
