"""What is held of jobs that have ended, and what becomes of it when room is tight."""

from __future__ import annotations

import os
import shutil

from . import carriers
from .carrier_files import CarrierFiles, run_of
from .claims import ON_DISK, REMOVED, Journal
from .jobdir import JobFiles


def release(files: CarrierFiles) -> None:
    """Let go of what this work dir holds of other jobs: of those that are forgotten, and of those that
    have ended with their newest checkpoint safe."""
    place = os.path.dirname(files.held)
    for job in os.listdir(place) if os.path.isdir(place) else []:
        if job == files.job.id:
            continue
        other = JobFiles(os.path.join(os.path.dirname(files.job.directory), job))
        if not os.path.exists(other.spec):
            shutil.rmtree(os.path.join(place, job), ignore_errors=True)
        elif os.path.exists(other.status):
            _release(other)


def _release(other: JobFiles) -> None:
    run = run_of(other)
    if run is None:
        return
    files = CarrierFiles(other, run.workdir)
    if carriers.runs(files):
        return  # It has still something to bring.
    journal = Journal(files.journal)
    journal.refresh()
    newest = journal.claims.newest()
    if newest is None or not newest.is_safe(run.accept):
        return
    for one in journal.claims.newest_first():
        if one.is_local:
            journal.write(REMOVED, one.name, store=ON_DISK)
    shutil.rmtree(files.held, ignore_errors=True)
