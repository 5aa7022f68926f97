"""Which step a job was at when: marks of a time and a step, by which its end can be told ahead.

    <job directory>/steps.json   {"schema", "total", "marks": [[time, step], ...]}

Written by the job's sampler (`step_watch`), read by everybody. The times are this machine's clock's;
`total` is the last step, or null.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import jobdir
from .jobdir import JobFiles

Mark = Tuple[float, int]

SCHEMA = 1
MOST_MARKS = 64
_TAIL_BYTES = 16 * 1024


def thinned(marks: Sequence[Mark]) -> List[Mark]:
    """At most `MOST_MARKS` of them, spread evenly over the time: one too many goes where they are
    closest, never the first or the last."""
    kept = list(marks)
    while len(kept) > MOST_MARKS:
        inner = range(1, len(kept) - 1)
        del kept[min(inner, key=lambda number: kept[number + 1][0] - kept[number - 1][0])]
    return kept


def told(files: JobFiles) -> Optional[Dict[str, Any]]:
    """What is known of a job's steps: `marks`, `total`, and the `time` it is here now; else None."""
    try:
        known = jobdir.read_document(files.steps)
    except (OSError, jobdir.Unreadable):
        return None
    if known is None:
        return None
    return {"marks": known.get("marks"), "total": known.get("total"), "time": time.time()}


def last_row(path: str, key: str = "") -> Optional[Dict[str, Any]]:
    """The newest whole row of that file of JSON lines that has `key`; None when none of the last ones
    makes sense."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL_BYTES, 0))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return None
    for line in reversed(lines):
        with suppress(ValueError, RecursionError):
            row = json.loads(line.decode("utf-8"))
            if isinstance(row, dict) and (not key or key in row):
                return row
    return None
