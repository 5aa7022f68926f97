"""What a job's attempts were, seen from outside of all machines, and what was wrong with them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

LAG_S = 2.0
"""What a log may lack at a machine's death, while a keeper is connected."""

_BEGUN = re.compile(rb"begins after step (\d+)|(\d+) steps are done")
"""As the exact trainer says it, and the template."""
_STEP = re.compile(rb"(?:^|\n)step (\d+)")


@dataclass(frozen=True, slots=True)
class Written:
    """One start of a trainer, as it told it outside of its machine."""

    attempt: int
    pieces: Sequence[tuple[float, bytes]]
    """What it wrote, and when."""

    @property
    def text(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    @property
    def begun_after(self) -> int:
        """The step that it went on from; 0 for the beginning."""
        found = _BEGUN.search(self.text)
        return int(found[1] or found[2]) if found else 0

    @property
    def steps(self) -> list[tuple[float, int]]:
        """Each step that it did, and when."""
        told = ((when, _STEP.search(piece)) for when, piece in self.pieces)
        return [(when, int(found[1])) for when, found in told if found]

    def oldest_missing(self, log_bytes: int) -> float | None:
        """When it wrote the first byte that a log of that size has not."""
        size = 0
        for when, piece in self.pieces:
            size += len(piece)
            if size > log_bytes:
                return when
        return None


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a machine under an attempt."""

    attempt: int
    time: float
    safe: int
    """The newest step that was claimed to be safe; 0 for none."""
    is_watched: bool = True
    """A keeper was connected for long enough."""


@dataclass(frozen=True, slots=True)
class History:
    """A job from its first start to its end."""

    written: Sequence[Written]
    """In the order in which they began."""
    deaths: Sequence[Death]
    claimed: Sequence[int]
    """The numbers of the attempts that the store has entries of, one for each entry."""
    logs: dict[int, bytes]
    """What is here of each attempt's log."""
    read: bytes
    """What the one reader printed who followed it all."""
    ended: str | None
    """The weights at the end, or all that stands for them; None for a job that was given up."""
    wanted: str
    """Those of the uninterrupted run."""


def read_written(truth: Path) -> list[Written]:
    """Every start that `told.py` told of in that folder."""
    found = []
    for path in truth.glob("*-*.jsonl"):
        lines = path.read_text("ascii").splitlines(keepends=True)
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        pieces = [(when, text.encode("latin-1")) for when, text in rows]
        found.append(Written(int(path.name.partition("-")[0]), pieces))
    return sorted(found, key=lambda one: one.pieces[0][0] if one.pieces else float("inf"))


def complaints(history: History) -> list[str]:
    """What was wrong, a sentence each."""
    return [*_of_lineage(history), *_of_safety(history), *_of_logs(history), *_of_end(history)]


def _of_lineage(history: History) -> Iterator[str]:
    attempts = [one.attempt for one in history.written]
    yield from _not_once("started", attempts)
    yield from _not_once("claimed", history.claimed)
    # The first has nobody to be kept apart from, and is written down while it runs.
    if missing := sorted(set(attempts) - set(history.claimed) - {1}):
        yield f"attempts ran that had claimed nothing: {missing}"
    if attempts != sorted(attempts):
        yield f"attempts began in another order: {attempts}"
    for before, after in pairwise(history.written):
        if before.pieces and after.pieces and before.pieces[-1][0] > after.pieces[0][0]:
            yield f"attempt {before.attempt} wrote while attempt {after.attempt} ran"


def _not_once(what: str, attempts: Sequence[int]) -> Iterator[str]:
    twice = sorted(number for number, times in Counter(attempts).items() if times > 1)
    if twice:
        yield f"attempts were {what} more than once: {twice}"


def _of_safety(history: History) -> Iterator[str]:
    for death in history.deaths:
        later = next((one for one in history.written if one.attempt > death.attempt), None)
        if later is not None and later.begun_after < death.safe:
            yield (
                f"attempt {later.attempt} began after step {later.begun_after}, "
                f"and step {death.safe} was safe when attempt {death.attempt} died"
            )


def _of_logs(history: History) -> Iterator[str]:
    for one in history.written:
        log = history.logs.get(one.attempt, b"")
        if not one.text.startswith(log):
            yield f"the log of attempt {one.attempt} is no prefix of what it wrote"
    for one in history.written[-1:] if history.ended is not None else ():
        if history.logs.get(one.attempt) != one.text:
            yield f"the log of attempt {one.attempt}, which lived to its end, is not whole"
    for death in history.deaths:
        for one in history.written:
            missing = one.oldest_missing(len(history.logs.get(one.attempt, b"")))
            if one.attempt == death.attempt and missing is not None and death.is_watched:
                yield from _too_late(one.attempt, death.time - missing)
    whole = b"".join(history.logs[number] for number in sorted(history.logs))
    if history.read != whole:
        yield f"the reader read {_first_difference(history.read, whole)}"


def _too_late(attempt: int, missing_s: float) -> Iterator[str]:
    if missing_s > LAG_S:
        yield f"of attempt {attempt} the last {missing_s:.1f} s are missing although a keeper was there"


def _of_end(history: History) -> Iterator[str]:
    if history.ended not in (None, history.wanted):
        yield f"it ended with {history.ended}, the uninterrupted run with {history.wanted}"


def _first_difference(read: bytes, whole: bytes) -> str:
    at = next(
        (at for at, (one, two) in enumerate(zip(read, whole, strict=False)) if one != two),
        min(len(read), len(whole)),
    )
    return f"{read[at : at + 40]!r} at byte {at} and not {whole[at : at + 40]!r}"


def share(outcomes: Iterable[bool]) -> float:
    """How many of them came to good, from 0 to 1."""
    all_of_them = list(outcomes)
    return sum(all_of_them) / len(all_of_them) if all_of_them else 0.0
