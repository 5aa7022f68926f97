"""Whose an attempt is: one machine's, decided the same way by everybody who looks into the store.

    attempts/<n>.json            whose attempt n is; written once
    attempts/<n>-<token>.json    somebody claims it

Drive lets two machines make a file of one name, and shows neither the other's for a while. So who wants
attempt n puts a claim under a name of his own, waits until it has arrived and for as long as the store
may hide what others put there, and looks again: a record decides, else the lowest token among the
claims, and that one writes the record. When none comes, it died before: nobody begins without a
record, so that number stays void, and whoever comes later takes the next. Two machines both win only
if a store hides their files from each other for longer than that; then everybody takes the record
with the lower token, and the machine of the other finds out when it looks next, and stops.
"""

from __future__ import annotations

import re
import time
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from . import arrival, manifest, store_documents
from .arrival import Patience
from .child import Say
from .manifest import Start
from .store_documents import Document
from .stores import Store, StoreError

FOLDER = "attempts"

_RECORD = re.compile(r"([0-9]+)( \([0-9]+\))?\.json")
"""A mount shows the second of two twins with a number."""
_CLAIM = re.compile(r"([0-9]+)-([0-9a-z]{8,64})\.json")
_WRITING_S = 2.0
"""A record is so long in the making at most; then whoever made it was killed."""
_DEAD_S = 10.0
"""Who has the lowest token and writes no record for so long, and twice what the store hides, is gone."""
_POLL_S = 0.1
_PAUSE_S = 1.0


class Fenced(StoreError):
    """The attempt is another machine's, or a later one has begun: it is not ours to go on."""


class Wish(NamedTuple):
    """An attempt that a machine wants to make."""

    attempt: int
    token: str
    runtime: str
    """The machine's."""
    began: Dict[str, Any]
    """`attempt` and `step` that it goes on from; empty for none."""

    @property
    def record(self) -> Document:
        """As attempts/<n>.json tells it."""
        return {
            "schema": manifest.SCHEMA,
            "attempt": self.attempt,
            "token": self.token,
            "runtime": self.runtime,
            "from_attempt": self.began.get("attempt"),
            "from_step": self.began.get("step"),
            "started": time.time(),
        }


def records(store: Store, folder: str) -> Dict[int, Document]:
    """The record of each attempt of the job in `folder`; of twins the one with the lowest token."""
    place = "{}/{}".format(folder, FOLDER)
    found: Dict[int, Document] = {}
    for one in store_documents.load_all(store, place, _is_record).values():
        if isinstance(one.get("attempt"), int):
            known = found.setdefault(one["attempt"], one)
            if str(one.get("token") or "") < str(known.get("token") or ""):
                found[one["attempt"]] = one
    return found


def starts(found: Iterable[Document]) -> Dict[int, Start]:
    """Where each attempt began, by the records."""
    return {
        one["attempt"]: Start(
            one["attempt"],
            one.get("from_attempt"),
            one.get("from_step"),
            str(one.get("runtime") or ""),
        )
        for one in found
    }


def check(store: Store, folder: str, attempt: int, runtime: str) -> bool:
    """Whether the store has the record of our attempt; Fenced when that is another machine's, or there
    is a later one."""
    place = "{}/{}".format(folder, FOLDER)
    names = store.names(place)
    latest = max((number for number, _ in _records_in(names)), default=0)
    if latest > attempt:
        raise Fenced("attempt {} of it runs elsewhere".format(latest))
    ours = [
        store_documents.load(store, place, name) for n, name in _records_in(names) if n == attempt
    ]
    readable = [one for one in ours if one is not None]
    first = min(readable, key=lambda one: str(one.get("token") or ""), default={})
    if first.get("runtime") not in (None, "", runtime) and runtime:
        raise Fenced("attempt {} of it is another machine's".format(attempt))
    return bool(ours)


class Claimant:
    """One who wants attempts of the job in `folder` of a store, which may hide for `settle_s` what
    others put there."""

    def __init__(
        self,
        store: Store,
        folder: str,
        settle_s: float,
        patience: Patience,
        *,
        dead_s: float = _DEAD_S,
    ) -> None:
        self._dead_s = dead_s
        self._store = store
        self._folder = folder
        self._place = "{}/{}".format(folder, FOLDER)
        self._settle_s = settle_s
        self._patience = patience

    def claim(self, wish: Wish, say: Say) -> None:
        """Make the attempt ours; says `{"end", "won"}`, `{"end", "taken": the record}` or `{"end",
        "left": the claim}` of one who died before it was his. A claim that was cut short is gone on with
        by the same token. StoreError: nobody can tell."""
        decided = self._decision(wish)
        if decided is None:
            own = _name(wish.attempt, wish.token)
            if own not in self._store.names(self._place):
                self._put(own, _claim_of(wish), say)
            self._pause(say)
            decided = self._decision(wish)
        if decided is None:
            first = min([wish.token, *_claims(self._store.names(self._place), wish.attempt)])
            if first == wish.token:
                decided = self._write_record(wish, say)
            else:
                decided = self._wait_for_record(wish, first, say)
        say({"end": True, **decided})

    def _wait_for_record(self, wish: Wish, first: str, say: Say) -> Dict[str, Any]:
        """That of whoever has the lowest token; what he claimed when he writes none."""
        deadline = time.monotonic() + self._dead_s + 2 * self._settle_s
        while time.monotonic() < deadline:
            decided = self._decision(wish)
            if decided is not None:
                return decided
            say({"waiting": True})
            time.sleep(min(_PAUSE_S, self._dead_s / 4))
        claimed = store_documents.load(self._store, self._place, _name(wish.attempt, first))
        return {"left": claimed or {"claims": wish.attempt, "token": first}}

    def _decision(self, wish: Wish) -> Optional[Dict[str, Any]]:
        """What the records say of it; None when they say nothing."""
        known = records(self._store, self._folder)
        latest = max(known, default=0)
        if latest > wish.attempt:
            return {"taken": known[latest]}
        if wish.attempt not in known:
            return None
        is_ours = known[wish.attempt].get("token") == wish.token
        return {"won": True} if is_ours else {"taken": known[wish.attempt]}

    def _write_record(self, wish: Wish, say: Say) -> Dict[str, Any]:
        name = "{}.json".format(wish.attempt)
        deadline = time.monotonic() + _WRITING_S
        while True:
            try:
                self._put(name, wish.record, say)
            except StoreError:
                decided = self._decision(wish)
                if decided is not None:
                    return decided
                if time.monotonic() >= deadline:
                    # Torn: it says nothing to anybody.
                    self._store.remove("{}/{}".format(self._place, name))
                    deadline += _WRITING_S
                time.sleep(_POLL_S)
                continue
            return self._decision(wish) or {"won": True}

    def _put(self, name: str, document: Document, say: Say) -> None:
        path = "{}/{}".format(self._place, name)
        given = store_documents.put(self._store, path, document, lambda done: say({"sent": done}))
        if self._settle_s:
            arrival.wait(self._store, [given], self._patience, say)

    def _pause(self, say: Say) -> None:
        deadline = time.monotonic() + self._settle_s
        while time.monotonic() < deadline:
            say({"waiting": True})
            time.sleep(min(_PAUSE_S, max(deadline - time.monotonic(), 0)))


def _name(attempt: int, token: str) -> str:
    return "{}-{}.json".format(attempt, token)


def _claim_of(wish: Wish) -> Document:
    return {
        "schema": manifest.SCHEMA,
        "claims": wish.attempt,
        "token": wish.token,
        "runtime": wish.runtime,
        "claimed": time.time(),
    }


def _claims(names: Iterable[str], attempt: int) -> List[str]:
    """The tokens of those who claim it."""
    found = [match for match in map(_CLAIM.fullmatch, names) if match]
    return [match.group(2) for match in found if int(match.group(1)) == attempt]


def _is_record(name: str) -> bool:
    return _RECORD.fullmatch(name) is not None


def _records_in(names: Iterable[str]) -> List[Tuple[int, str]]:
    found = [
        (match, name) for match, name in ((_RECORD.fullmatch(one), one) for one in names) if match
    ]
    return [(int(match.group(1)), name) for match, name in found]
