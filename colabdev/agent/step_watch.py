"""The sampler's half of a job's steps: it looks where the trainer is, every ten seconds.

A trainer need do nothing for it: its checkpoints are marks, by the time and the step that their carrier
knows of them. Finer are the rows of a file of JSON lines that the project names, in which a row has its
`step`; its time is when the file was written last, so it need not tell any. The last step is the
project's `steps`, else what the rows or the newest checkpoint's manifest say as `total_steps`.
"""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from typing import Any, Dict, List, Mapping, Optional, Tuple

from . import claims, jobdir, manifest, steps
from .carrier_files import CarrierFiles, run_of
from .jobdir import JobFiles
from .steps import Mark

TOTAL = "total_steps"
Found = Tuple[List[Mark], Optional[int]]
"""Marks, oldest first, and the last step if that was told."""


class StepWatch:
    """What is known of the steps of one job, which runs."""

    def __init__(self, files: JobFiles, spec: Dict[str, Any]) -> None:
        self._files = files
        wanted = dict(spec.get("progress") or {})
        workdir = str(spec["workdir"])
        # A script may write beside its frozen code.
        self._roots = list(dict.fromkeys([workdir, str(spec.get("code") or workdir)]))
        self._pattern = wanted.get("file")
        self._total = wanted.get("steps")
        self._is_set = self._total is not None
        self._begun = os.stat(files.spec).st_mtime
        self._marks: List[Mark] = []
        run = run_of(files)
        self._carried = CarrierFiles(files, run.workdir) if run else None
        self._journal = claims.Journal(self._carried.journal) if self._carried else None

    def look(self) -> None:
        """Write down where the job is, when that is news. OSError when it cannot be written."""
        before = (self._marks, self._total)
        marks, total = self._by_file() if self._pattern else ([], None)
        if not marks or total is None:
            carried, told = self._by_checkpoints()
            marks, total = marks or carried, total or told
        for mark in marks:
            self._add(mark)
        if total is not None and not self._is_set:
            self._total = total
        if (self._marks, self._total) != before:
            known = {"schema": steps.SCHEMA, "total": self._total, "marks": self._marks}
            jobdir.write_document(self._files.steps, known)

    def _add(self, mark: Mark) -> None:
        """The same step again is no news; an earlier one says that the trainer went back."""
        if not self._marks or (mark[0] > self._marks[-1][0] and mark[1] != self._marks[-1][1]):
            self._marks = steps.thinned([*self._marks, mark])

    def _by_file(self) -> Found:
        """The newest row of the file that was written last, since the job began."""
        found = []
        for root in self._roots:
            for path in glob.glob(os.path.join(glob.escape(root), str(self._pattern))):
                with suppress(OSError):
                    found.append((os.stat(path).st_mtime, path))
        written, path = max(found, default=(0.0, ""))
        row = steps.last_row(path, "step") if written >= self._begun else None
        step = _count(row or {}, "step")
        return ([] if step is None else [(written, step)]), _count(row or {}, TOTAL)

    def _by_checkpoints(self) -> Found:
        """All that the carrier found so far, if there are new ones."""
        if self._carried is None or self._journal is None or not self._journal.refresh():
            return [], None
        known = self._journal.claims
        marks = [
            (one.saved, one.step) for one in known.checkpoints.values() if one.step is not None
        ]
        newest, total = known.newest(), None
        if newest is not None:
            total = _total_of(self._carried.manifest(newest.name))
        return sorted(marks), total


def _total_of(path: str) -> Optional[int]:
    """What the trainer's manifest says, which is part of ours."""
    try:
        with open(path, "rb") as file:
            return _count(manifest.parse(file.read()).about, TOTAL)
    except (OSError, manifest.BadManifest):
        return None


def _count(row: Mapping[str, Any], key: str) -> Optional[int]:
    value = row.get(key)
    is_count = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15
    return int(value) if is_count else None  # type: ignore[arg-type]
