"""What must outlive a rented machine, handed to Drive; and the machine's end, once Drive has it all.

    <drive_dir>/colabdev/<project>/code/<tree hash>.zip         by the project's mirror
    <drive_dir>/colabdev/<project>/outputs/<tree hash>.zip      outputs that never came home
    <drive_dir>/colabdev/<project>/runs/<job>/log/<attempt>.zip log, spec and records of a job

As `down` does it, without a computer to take anything home.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import urllib.request
import zipfile
from contextlib import suppress
from typing import Any, Dict, Iterator, List

from . import changes, drive, jobdir, jobs, kept_jobs, lease, mirrors, shelf, tree
from .jobdir import JobFiles
from .mirror_files import Place
from .refusal import Refusal
from .storing import store
from .workdir import View, WorkDir

MIRROR_TIMEOUT_S = 600.0
DRIVE_TIMEOUT_S = 900.0
END_TIMEOUT_S = 60.0
STOP_GRACE_S = 5.0
_PAUSE_S = 1.0
_NAMED = 3

# A plain Python will do: only mounting needs the kernel.
_FLUSH = "from google.colab import drive; drive.flush_and_unmount(timeout_ms={})"


class NotSafe(Exception):
    """Something is nowhere else; the text says what."""


def leave(wanted: Dict[str, Any], *, is_flushed: bool = False) -> Dict[str, Any]:
    """Stop what runs, hand over what must outlive the machine, and end it. Returns only when it could
    not: `problem`, and whether Drive was `flushed` before that, which is done once."""
    if not is_flushed:
        try:
            # First of all, for it may refuse, and must not have stopped any job then; and again for
            # what the jobs wrote until their end.
            hand_over(wanted)
            if _stop_jobs():
                hand_over(wanted)
            if wanted.get("drive_dir"):
                _flush_drive()
        except NotSafe as exc:
            return {"problem": str(exc), "flushed": False}
    try:
        _end()
    except OSError as exc:
        return {"problem": "Colab does not end the machine: {}".format(exc), "flushed": True}
    time.sleep(END_TIMEOUT_S)
    return {"problem": "Colab said that it ends the machine, and did not", "flushed": True}


def hand_over(wanted: Dict[str, Any]) -> None:
    """See that Drive was handed all that is only here. NotSafe says what it was not."""
    drive_dir = wanted.get("drive_dir")
    ended = [told for told in _told_jobs() if told["state"] in jobdir.ENDED_STATES]
    places = [*(wanted.get("workdirs") or []), *(told["workdir"] for told in ended)]
    for path in dict.fromkeys(str(place).rstrip("/") for place in places if place):
        if os.path.exists(Place(path).marker):
            _hand_over_project(path, drive_dir)
    for told in ended:
        _hand_over_job(told, drive_dir)


def _hand_over_project(path: str, drive_dir: Any) -> None:
    place = {"workdir": path, "drive_dir": drive_dir, "timeout_s": MIRROR_TIMEOUT_S}
    *_, (told, _body) = mirrors.flush(place, b"")
    if told["away_count"]:
        why = told["problem"] or "too large for the project's archive on Drive"
        raise NotSafe(_only_there(path, told["away"], int(told["away_count"]), str(why)))
    workdir = WorkDir(path)
    survey = workdir.survey(View(workdir.ledger.rules(None), outputs=True))
    here = {
        entry.path: entry.fingerprint
        for entry in survey.outputs
        if survey.brought.get(entry.path, changes.NOTHING) != entry.fingerprint
    }
    if not here:
        return
    if not drive_dir:
        raise NotSafe(_only_there(path, sorted(here), len(here), "there is no Drive"))
    folder = os.path.join(drive.root_of(drive_dir), os.path.basename(path), "outputs")
    if shelf.find_whole(folder, tree.hash_fingerprints(here), None) is None:
        store(Place(path), folder, sorted(here))


def _only_there(path: str, named: List[str], count: int, why: str) -> str:
    files = "1 file" if count == 1 else "{} files".format(count)
    return "{} in {} that are nowhere else ({}): {}".format(
        files, path, ", ".join(named[:_NAMED]), why
    )


def _hand_over_job(told: Dict[str, Any], drive_dir: Any) -> None:
    """The job's log and records as one file, unless Drive has them."""
    if not drive_dir:
        raise NotSafe("the log of {} is nowhere else: there is no Drive".format(told["id"]))
    files = JobFiles(os.path.join(jobs.root(), told["id"]))
    project = os.path.basename(str(told["workdir"]).rstrip("/")) or "content"
    folder = kept_jobs.log_folder(drive_dir, project, files.id)
    stem = str(told["attempt"])
    if any(map(kept_jobs.is_whole, drive.same_named(folder, stem, kept_jobs.SUFFIX))):
        return
    with tempfile.TemporaryFile() as packed:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path in _records(files):
                archive.write(path, os.path.basename(path))
        packed.seek(0)
        drive.put(packed, folder, stem, kept_jobs.SUFFIX)


def _records(files: JobFiles) -> Iterator[str]:
    """The status last, as everywhere."""
    for path in (files.log, files.spec, files.events, files.metrics, files.status):
        if os.path.exists(path):
            yield path


def _told_jobs() -> List[Dict[str, Any]]:
    told, _ = jobs.answer_list({}, b"")
    if told["problems"]:
        raise NotSafe("cannot tell how {id} stands: {reason}".format(**told["problems"][0]))
    return list(told["jobs"])


def _stop_jobs() -> bool:
    """End all that goes on; whether anything did."""
    going = [told["id"] for told in _told_jobs() if told["state"] not in jobdir.ENDED_STATES]
    for job_id in going:
        try:
            jobs.answer_stop({"id": job_id, "grace_s": STOP_GRACE_S}, b"")
        except Refusal as exc:
            raise NotSafe(exc.message) from exc
    return bool(going)


def _flush_drive() -> None:
    """Have Drive take all that waits, and unmount it."""
    asking = ["python3", "-c", _FLUSH.format(int(DRIVE_TIMEOUT_S * 1000))]
    try:
        done = subprocess.run(
            asking,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=DRIVE_TIMEOUT_S + 30,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise NotSafe("Drive has not taken all that was written here: it hangs") from exc
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        last = lines[-1] if lines else "status {}".format(done.returncode)
        raise NotSafe("Drive has not taken all that was written here: " + last)


def _end() -> None:
    """What `google.colab.runtime.unassign()` does. We may be gone before the answer."""
    url = "http://{}/unassign".format(os.environ[lease.ADDRESS_VARIABLE])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(ConnectionResetError), opener.open(url, data=b"", timeout=END_TIMEOUT_S):
        pass
