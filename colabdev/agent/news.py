"""What a keeper asks to have each job's copy at home: what is new, a job's records, and what may go."""

from __future__ import annotations

import json
import os
import select
import shutil
import time
import zlib
from contextlib import suppress
from typing import Any, Dict, FrozenSet, Iterator, List, Tuple

from . import follow, jobdir, jobs, pruning
from .jobdir import JobFiles
from .states import describe

Answer = Tuple[Dict[str, Any], bytes]

_LOOK_S = 1.0
_SETTLE_S = 1.0
_STDIN = 0


def wait(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Answered, once, when something is other than the client knows it: `{"jobs": [as job.list]}`.

    `known` is how long the log of each job is that the client knows. News is a job of `runtime` that it
    does not know and that goes on or came just now, one that has ended, and a log that has grown or is
    not there; that is told a second after the request at the earliest, because whoever follows the job
    brings it home meanwhile. After `limit_s` what there is is told. Ends without an answer when stdin
    has something for us.
    """
    known = {str(job_id): int(size) for job_id, size in dict(arguments["known"]).items()}
    begun = time.monotonic()
    os.makedirs(jobs.root(), mode=0o700, exist_ok=True)
    old = frozenset(os.listdir(jobs.root()))
    while True:
        # Watched before it is looked at: what changes in between wakes us.
        watch = follow.Watch(*_watches(known))
        try:
            told = _present(known, arguments.get("runtime"), old)
            is_other = {job["id"]: job["log_bytes"] for job in told} != known
            passed_s = time.monotonic() - begun
            due_s = _SETTLE_S if is_other else float(arguments["limit_s"])
            if any(_is_news(job, known) for job in told) or passed_s >= due_s:
                yield {"jobs": told}, b""
                return
            if not (_is_quiet(due_s - passed_s) if is_other else watch.wait(_LOOK_S)):
                return
        finally:
            watch.close()


def answer_records(arguments: Dict[str, Any], body: bytes) -> Answer:
    """What there is of a job beside its log: the body is zlib of a JSON object of texts by their file's
    name; a file that is not there is left out."""
    files = jobs.existing(arguments["id"])
    texts = {}
    for name in jobdir.RECORDS:
        path = os.path.join(files.directory, name)
        with suppress(FileNotFoundError), open(path, encoding="ascii", errors="replace") as file:
            texts[name] = file.read()
    return {"id": files.id}, zlib.compress(json.dumps(texts).encode("ascii"))


def answer_prune(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Remove those of `ids`, which are whole on the client's computer, that nobody needs here any more
    (agent/pruning.py); the removed are named."""
    ended = []
    for job_id in arguments["ids"]:
        with suppress(OSError, jobdir.Unreadable):
            files = jobs.files_of(job_id)
            spec, status = jobdir.read_document(files.spec), jobdir.read_document(files.status)
            if spec is not None and status is not None:
                ended.append(pruning.Ended(files.id, str(spec.get("name")), status.get("ended")))
    removed = pruning.prunable(ended, time.time())
    for job_id in removed:
        shutil.rmtree(jobs.files_of(job_id).directory, ignore_errors=True)
    return {"removed": removed}, b""


def _watches(known: Dict[str, int]) -> Iterator[Tuple[str, int]]:
    root = jobs.root()
    yield root, follow.IN_MOVED_TO
    for job_id in known:
        files = JobFiles(os.path.join(root, job_id))
        if os.path.exists(files.log):
            yield files.log, follow.IN_MODIFY
            yield files.directory, follow.IN_MOVED_TO


def _present(known: Dict[str, int], runtime: object, old: FrozenSet[str]) -> List[Dict[str, Any]]:
    """The jobs that are known, and those of the runtime that go on or are not among the old."""
    told = []
    for name in os.listdir(jobs.root()):
        files = JobFiles(os.path.join(jobs.root(), name))
        has_ended = name in old and os.path.exists(files.status)
        if name not in known and (has_ended or not jobdir.is_job_id(name)):
            continue
        with suppress(OSError, jobdir.Unreadable):
            job = describe(files)
            if name in known or job["runtime"] == runtime:
                told.append(job)
    return told


def _is_news(job: Dict[str, Any], known: Dict[str, int]) -> bool:
    return job["id"] not in known or job["state"] in jobdir.ENDED_STATES


def _is_quiet(timeout_s: float) -> bool:
    ready, _, _ = select.select([_STDIN], [], [], max(timeout_s, 0))
    return not ready
