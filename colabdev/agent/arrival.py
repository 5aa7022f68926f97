"""Waiting until a store has what it was given, as far as the store can say."""

from __future__ import annotations

import time
from typing import Iterable, NamedTuple, Tuple

from .child import Say
from .manifest import FileEntry
from .stores import ARRIVED, ARRIVING, PROVED, REFUTED, SILENT, Receipt, Store, StoreError

FIRST_POLL_S = 0.1
_SLOWEST_POLL_S = 2.0

Given = Tuple[Receipt, FileEntry]


class Patience(NamedTuple):
    """How long a store may take, in seconds."""

    arrive_s: float = 120.0
    """At least so long after it was handed over; longer for what is large."""
    silent_s: float = 10.0
    """A new file may be without attributes for so long; then the store tells nothing."""


class Refuted(StoreError):
    """What was claimed is not so."""


def wait(
    store: Store, given: Iterable[Given], patience: Patience, say: Say, taken_s: float = 0.0
) -> str:
    """Until all of it is proved as far as the store can; PROVED, ARRIVED or SILENT. `taken_s` is how
    long the store took to accept it. Refuted, or StoreError when it does not arrive."""
    begun = time.monotonic()
    limit_s = max(patience.arrive_s, 4 * taken_s)
    pause_s = FIRST_POLL_S
    state = PROVED
    for receipt, entry in given:
        while True:
            proof = store.look(receipt, entry)
            passed_s = time.monotonic() - begun
            is_waiting = proof.state == ARRIVING or (
                proof.state == SILENT and passed_s < patience.silent_s
            )
            if not is_waiting:
                break
            if passed_s >= limit_s:
                raise StoreError("it has not arrived after {:.0f} s".format(passed_s))
            say({"waiting": entry.path})
            time.sleep(pause_s)
            pause_s = slower(pause_s)
        if proof.state == REFUTED:
            raise Refuted("{}: {}".format(entry.path, proof.why))
        state = _weaker(state, proof.state)
    return state


def slower(pause_s: float) -> float:
    """The pause before the next look."""
    return min(pause_s * 1.5, _SLOWEST_POLL_S)


def _weaker(one: str, other: str) -> str:
    order = (SILENT, ARRIVED, PROVED)
    return min(one, other, key=order.index)
