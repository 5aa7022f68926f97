"""Jobs of machines that gave themselves back, as `handover` left them on Drive: for who comes later."""

from __future__ import annotations

import json
import os
import zipfile
from typing import Any, Dict, Iterator, List, Tuple

from . import drive, jobdir

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
    """Send what Drive has of the jobs `ids`: for each that is whole its log from the first byte on as
    `{"id"}` and a body, then `{"id", "records"}`, texts by their file's name; at last `{"end"}`."""
    drive_dir = str(arguments["drive_dir"])
    for job_id in filter(jobdir.is_job_id, map(str, arguments["ids"])):
        for path in _archives(drive_dir, job_id):
            with zipfile.ZipFile(path) as packed:
                with packed.open(LOG) as log:
                    for piece in drive.pieces(log):  # type: ignore[arg-type]
                        yield {"id": job_id}, piece
                names = [name for name in jobdir.RECORDS if name in packed.namelist()]
                records = {name: packed.read(name).decode("ascii", "replace") for name in names}
            yield {"id": job_id, "records": records}, b""
            break
    yield {"end": True}, b""


def _archives(drive_dir: str, job_id: str) -> List[str]:
    """The whole ones of that job, whatever its project, the newest attempt first."""
    root = drive.root_of(drive_dir)
    found = []
    for project in drive.list_names(root):
        folder = log_folder(drive_dir, project, job_id)
        paths = [os.path.join(folder, name) for name in drive.list_names(folder)]
        found += [path for path in paths if path.endswith(SUFFIX) and is_whole(path)]
    return sorted(found, key=_attempt, reverse=True)


def _attempt(path: str) -> int:
    with zipfile.ZipFile(path) as packed:
        status = json.loads(packed.read(jobdir.STATUS).decode("ascii"))
    return int(status.get("attempt", jobdir.FIRST_ATTEMPT))
