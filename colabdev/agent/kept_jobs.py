"""The logs of jobs as Drive has them: for who comes when their machines are gone."""

from __future__ import annotations

import json
import os
import zipfile
from contextlib import suppress
from typing import Any, Dict, Iterator, Tuple

from . import drive, jobdir, log_segments
from .log_segments import Segment

Answer = Tuple[Dict[str, Any], bytes]

LOG = "log"
SUFFIX = ".zip"


def log_folder(drive_dir: str, project: str, job_id: str) -> str:
    """Where a job's log and records are; OSError without a Drive."""
    root = drive.root_of(drive_dir)
    return os.path.join(root, drive.check_part(project), "runs", job_id, "log")


def is_whole(path: str) -> bool:
    """Whether all that was packed can be read again."""
    try:
        with zipfile.ZipFile(path) as packed:
            return packed.testzip() is None and jobdir.STATUS in packed.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def fetch(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Send what Drive has of the logs of the jobs `ids`, beyond what is `known` of them (bytes by id and
    attempt): of each attempt `{"id", "attempt", "offset"}` with a body, then `{"id", "attempt",
    "log_bytes"}`, which is how long a true prefix Drive has, and with `records` (texts by their file's
    name) when its end is there; at last `{"end"}`."""
    drive_dir = str(arguments["drive_dir"])
    known = dict(arguments.get("known") or {})
    for job_id in filter(jobdir.is_job_id, map(str, arguments["ids"])):
        sizes = {int(key): int(size) for key, size in dict(known.get(job_id) or {}).items()}
        attempts = _attempts(drive_dir, job_id, sizes)
        for attempt in sorted(attempts):
            yield from _send(job_id, attempt, attempts[attempt], sizes.get(attempt, 0))
    yield {"end": True}, b""


def _send(job_id: str, attempt: int, kept: Kept, offset: int) -> Iterator[Answer]:
    about = {"id": job_id, "attempt": attempt}
    for begin, piece in kept.pieces(offset):
        yield {**about, "offset": begin}, piece
    end: Dict[str, Any] = {**about, "log_bytes": kept.size}
    records = kept.records()
    if records:
        end["records"] = records
    yield end, b""


class Kept:
    """What Drive has of one attempt's log, in one place or another."""

    size: int

    def pieces(self, offset: int) -> Iterator[Tuple[int, bytes]]:
        """Where it begins, and bytes, from `offset` on."""
        raise NotImplementedError

    def records(self) -> Dict[str, str]:
        """The texts of its end; none when that is not there."""
        raise NotImplementedError


class KeptArchive(Kept):
    """As `handover` leaves a job that has ended."""

    def __init__(self, path: str) -> None:
        self._path = path
        with zipfile.ZipFile(path) as packed:
            self.size = packed.getinfo(LOG).file_size

    def pieces(self, offset: int) -> Iterator[Tuple[int, bytes]]:
        with zipfile.ZipFile(self._path) as packed, packed.open(LOG) as log:
            log.seek(offset)
            for piece in drive.pieces(log):  # type: ignore[arg-type]
                yield offset, piece
                offset += len(piece)

    def records(self) -> Dict[str, str]:
        with zipfile.ZipFile(self._path) as packed:
            names = [name for name in jobdir.RECORDS if name in packed.namelist()]
            return {name: packed.read(name).decode("ascii", "replace") for name in names}


class KeptSegments(Kept):
    """As a carrier brings it while the job runs."""

    def __init__(self, folder: str, known: int) -> None:
        self._folder = folder
        segments = log_segments.parse(drive.list_names(folder))
        # Of a torn one not a byte is told, and others may have the same.
        self._chain = log_segments.chain(
            segments, lambda one: one.end <= known or self._is_whole(one)
        )
        self.size = self._chain[-1].end if self._chain else 0

    def pieces(self, offset: int) -> Iterator[Tuple[int, bytes]]:
        for one in self._chain:
            if one.end <= offset:
                continue
            at = one.begin
            with open(os.path.join(self._folder, one.name), "rb") as packed:
                for piece in log_segments.unpacked(packed, one):
                    fresh = piece[max(offset - at, 0) :]
                    at += len(piece)
                    if fresh:
                        yield at - len(fresh), fresh
                        offset = at

    def _is_whole(self, one: Segment) -> bool:
        try:
            with open(os.path.join(self._folder, one.name), "rb") as packed:
                return log_segments.is_whole(packed, one)
        except OSError:
            return False

    def records(self) -> Dict[str, str]:
        path = os.path.join(self._folder, jobdir.STATUS)
        with suppress(OSError, jobdir.Unreadable):
            status = jobdir.read_document(path)
            # Of one that was stopped because it went on elsewhere that is no end of the job.
            if status is not None and status.get("reason") != jobdir.SUPERSEDED:
                return {jobdir.STATUS: json.dumps(status)}
        return {}


def _attempts(drive_dir: str, job_id: str, known: Dict[int, int]) -> Dict[int, Kept]:
    """What there is of that job by attempts, whatever its project; an archive has the records, too."""
    found: Dict[int, Kept] = {}
    for project in drive.list_names(drive.root_of(drive_dir)):
        folder = log_folder(drive_dir, project, job_id)
        for name in drive.list_names(folder):
            path = os.path.join(folder, name)
            if name.isdigit():
                attempt = int(name)
                found.setdefault(attempt, KeptSegments(path, known.get(attempt, 0)))
            elif name.endswith(SUFFIX) and is_whole(path):
                found[_attempt(path)] = KeptArchive(path)
    return found


def _attempt(path: str) -> int:
    with zipfile.ZipFile(path) as packed:
        status = json.loads(packed.read(jobdir.STATUS).decode("ascii"))
    return int(status.get("attempt", jobdir.FIRST_ATTEMPT))
