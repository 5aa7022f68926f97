"""A job's log in a store: sealed pieces of it, each written once, and what prefix of it they make.

    log/<attempt>/<begin>-<end>-<tier>.gz    bytes `begin` to `end`, gzipped
    log/<attempt>/status.json                how the attempt ended

Sixteen of one tier become one of the next, so that the folder stays small. Pieces may overlap: a kill
leaves some that were about to go, and both say the same of a byte.
"""

from __future__ import annotations

import gzip
import os
import re
import tempfile
import zlib
from typing import (
    Any,
    BinaryIO,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
)

from . import arrival, jobdir, manifest, store_documents
from .arrival import Given, Patience
from .child import Say
from .jobdir import JobFiles
from .stores import SILENT, Store, StoreError, Told

FOLDER = "log"
MOST_BYTES = 1024**3
"""No more of one attempt's log goes to a store."""

_SEGMENT_BYTES = 16 * 1024**2
_FAN = 16
_TIERS = 4
_CROWDED = 80
_PIECE_BYTES = 256 * 1024
_NAME = re.compile(r"([0-9]{12})-([0-9]{12})-([0-9])\.gz")
_UNREADABLE = (OSError, EOFError, zlib.error)


class Segment(NamedTuple):
    """The bytes from `begin` to before `end` of a log."""

    begin: int
    end: int
    tier: int

    @property
    def name(self) -> str:
        return "{:012d}-{:012d}-{}.gz".format(*self)


def folder_of(run_folder: str, attempt: int) -> str:
    """Where a store has the log of that attempt."""
    return "{}/{}/{}".format(run_folder, FOLDER, attempt)


def parse(names: Iterable[str]) -> List[Segment]:
    """The segments among the names, in their order; whether they are whole is not known."""
    matches = [match for match in map(_NAME.fullmatch, names) if match]
    found = [Segment(*(int(part) for part in match.groups())) for match in matches]
    return sorted(one for one in found if one.begin < one.end)


def chain(
    segments: Iterable[Segment], is_good: Callable[[Segment], bool] = lambda one: True
) -> List[Segment]:
    """As few of those that are good as give the longest prefix of the log, in order."""
    # The furthest first: of most places only one is ever asked about.
    left, reached = sorted(segments, key=lambda one: -one.end), 0
    found: List[Segment] = []
    while True:
        going_on = (one for one in left if one.begin <= reached < one.end and is_good(one))
        best = next(going_on, None)
        if best is None:
            return found
        found.append(best)
        reached = best.end


def reach(segments: Iterable[Segment]) -> int:
    """How long that prefix is."""
    found = chain(segments)
    return found[-1].end if found else 0


def unpacked(packed: BinaryIO, segment: Segment) -> Iterator[bytes]:
    """Its bytes; StoreError at the end when they are not all that they should be."""
    size = 0
    try:
        with gzip.GzipFile(fileobj=packed) as file:
            while True:
                piece = file.read(_PIECE_BYTES)
                if not piece:
                    break
                size += len(piece)
                yield piece
    except _UNREADABLE as exc:
        raise StoreError("{} is torn: {}".format(segment.name, exc)) from exc
    if size != segment.end - segment.begin:
        raise StoreError("{} has not all that its name says".format(segment.name))


def is_whole(packed: BinaryIO, segment: Segment) -> bool:
    """Whether all of it can be read."""
    try:
        for _ in unpacked(packed, segment):
            pass
    except StoreError:
        return False
    return True


class LogTransfer:
    """Brings one attempt's log to one store."""

    def __init__(self, store: Store, folder: str, job: JobFiles, patience: Patience) -> None:
        self._store = store
        self._folder = folder
        self._job = job
        self._patience = patience

    def bring(self, trusted: Set[str], say: Say) -> None:
        """Seal and store what the store has not yet; says `segment` (a name) of each that is whole
        there, `sent` (how far it is), and `ended` when the attempt's end is there, too. `trusted` are
        the names that were said before."""
        there = [one for one in self._there() if self._can_trust(one, trusted, say)]
        size = min(jobdir.size_of(self._job.log), MOST_BYTES)
        while reach(there) < size:
            begin = reach(there)
            there.append(Segment(begin, min(size, begin + _SEGMENT_BYTES), 0))
            self._put(there[-1], say)
            say({"sent": reach(there)})
        self._roll_up(there, say)
        status = _status_of(self._job)
        if status is not None and jobdir.size_of(self._job.log) <= reach(there):
            name = jobdir.STATUS
            store_documents.put_once(self._store, self._folder, name, status, _beat(say))
        say({"sent": reach(there), "ended": status is not None})

    def _there(self) -> List[Segment]:
        return parse(self._store.names(self._folder))

    def _can_trust(self, one: Segment, trusted: Set[str], say: Say) -> bool:
        """What nobody said to be whole is looked at; what a kill tore goes."""
        if one.name in trusted:
            return True
        path = "{}/{}".format(self._folder, one.name)
        with tempfile.TemporaryFile() as packed:
            for piece in self._store.fetch(path):
                say({"read": packed.write(piece)})
            packed.seek(0)
            if not is_whole(packed, one):
                self._store.remove(path)
                return False
        say({"segment": one.name})
        return True

    def _put(self, one: Segment, say: Say) -> Given:
        handle, source = tempfile.mkstemp(prefix="colabdev-")
        try:
            with open(handle, "wb") as packed:
                self._pack(one, packed, say)
            entry = manifest.digests(source)
            path = "{}/{}".format(self._folder, one.name)
            receipt = self._store.put(path, source, entry, _beat(say))
        finally:
            os.unlink(source)
        say({"segment": one.name})
        return receipt, entry

    def _pack(self, one: Segment, packed: BinaryIO, say: Say) -> None:
        """The same bytes whenever it is packed: a name is never given to others."""
        with open(self._job.log, "rb") as log, gzip.GzipFile(
            filename="", mode="wb", fileobj=packed, mtime=0
        ) as file:
            log.seek(one.begin)
            left = one.end - one.begin
            while left:
                piece = log.read(min(_PIECE_BYTES, left))
                if not piece:
                    raise StoreError("the log is shorter than it was")
                file.write(piece)
                left -= len(piece)
                say({"packed": len(piece)})

    def _roll_up(self, there: List[Segment], say: Say) -> None:
        """Make one of the first that are many of a tier, and let go what is in a larger one as well."""
        for tier in range(_TIERS):
            parts = [one for one in chain(there) if one.tier == tier]
            if len(parts) >= _FAN:
                whole = Segment(parts[0].begin, parts[_FAN - 1].end, tier + 1)
                given = self._put(whole, say)
                there.append(whole)
                state = arrival.wait(self._store, [given], self._patience, say)
                if state != SILENT or len(there) > _CROWDED:
                    self._let_go(there, whole)

    def _let_go(self, there: List[Segment], whole: Segment) -> None:
        for one in list(there):
            if whole.begin <= one.begin and one.end <= whole.end and one != whole:
                self._store.remove("{}/{}".format(self._folder, one.name))
                there.remove(one)


def _status_of(job: JobFiles) -> Optional[Dict[str, Any]]:
    try:
        return jobdir.read_document(job.status)
    except jobdir.Unreadable:
        return None


def _beat(say: Say) -> Told:
    return lambda done: say({"sent_bytes": done})
