"""What must outlive a rented machine, handed to Drive; and the machine's end, once Drive has it all.

    <drive_dir>/colabdev/<project>/code/<tree hash>.zip         by the project's mirror
    <drive_dir>/colabdev/<project>/outputs/<tree hash>.zip      outputs that never came home
    <drive_dir>/colabdev/<project>/runs/<job>/log/<attempt>.zip log, spec and records of a job

As `down` does it, without a computer to take anything home. Checkpoints are brought by their carriers,
which are waited for.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import urllib.request
import zipfile
from contextlib import suppress
from typing import Any, Container, Dict, Iterator, List

from . import (
    changes,
    checkpoint_safety,
    checkpoints,
    drive,
    jobdir,
    jobs,
    kept_jobs,
    lease,
    mirrors,
    shelf,
    tree,
)
from .crash_points import crash_point
from .jobdir import JobFiles
from .mirror_files import Place
from .refusal import Refusal
from .storing import store
from .workdir import View, WorkDir

MIRROR_TIMEOUT_S = 600.0
DRIVE_TIMEOUT_S = 900.0
CARRIERS_TIMEOUT_S = 120.0
END_TIMEOUT_S = 60.0
STOP_GRACE_S = 5.0
SAVING_GRACE_S = 60.0
"""For jobs whose checkpoints are carried: they may save one more."""
_PAUSE_S = 1.0
_NAMED = 3

# A plain Python will do: only mounting needs the kernel.
_FLUSH = "from google.colab import drive; drive.flush_and_unmount(timeout_ms={})"


class NotSafe(Exception):
    """Something is nowhere else; the text says what."""


def leave(wanted: Dict[str, Any], why: str, proof_s: float) -> str:
    """Stop what runs, hand over what must outlive the machine, and end it. Returns only when it could
    not, and says the reason. Drive is flushed and unmounted once for each `why`; checkpoints get
    `proof_s` to be proved, before that and after."""
    if not lease.was_flushed(why):
        try:
            # First of all, for it may refuse, and must not have stopped any job then; and again for
            # what the jobs wrote until their end.
            hand_over(wanted, proof_s)
            crash_point("handover.handed")
            if _stop_jobs():
                hand_over(wanted, proof_s)
            crash_point("handover.stopped")
            # What is under way would be cut off with Drive.
            checkpoint_safety.wait_for_carriers(CARRIERS_TIMEOUT_S)
            if wanted.get("drive_dir"):
                _flush_drive()
        except NotSafe as exc:
            return str(exc)
        lease.note_flushed(why)
        crash_point("handover.flushed")
    try:
        _end()
    except OSError as exc:
        return "Colab does not end the machine: {}".format(exc)
    time.sleep(END_TIMEOUT_S)
    return "Colab said that it ends the machine, and did not"


def hand_over(wanted: Dict[str, Any], proof_s: float) -> None:
    """See that Drive has all that is only here. NotSafe says what it has not."""
    reasons = checkpoint_safety.secure(proof_s)
    try:
        # Also when it stays for a checkpoint: Colab may end it at any time.
        _hand_over_files(wanted)
    except NotSafe as exc:
        reasons.append(str(exc))
    except OSError as exc:
        reasons.append(drive.explain(exc))
    if reasons:
        raise NotSafe("; ".join(reasons))


def _hand_over_files(wanted: Dict[str, Any]) -> None:
    drive_dir = wanted.get("drive_dir")
    ended = [told for told in _told_jobs() if told["state"] in jobdir.ENDED_STATES]
    places = [*(wanted.get("workdirs") or []), *(told["workdir"] for told in ended)]
    carried = checkpoint_safety.safe_sources()
    for path in dict.fromkeys(str(place).rstrip("/") for place in places if place):
        if os.path.exists(Place(path).marker):
            _hand_over_project(path, drive_dir, carried)
    for told in ended:
        _hand_over_job(told, drive_dir)


def _hand_over_project(path: str, drive_dir: Any, carried: Container[str]) -> None:
    """Its files as its mirror hands them over, and its outputs but those `carried` as checkpoints."""
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
        and not _is_within(os.path.join(path, entry.path), carried)
    }
    if not here:
        return
    if not drive_dir:
        raise NotSafe(_only_there(path, sorted(here), len(here), "there is no Drive"))
    folder = os.path.join(drive.root_of(drive_dir), os.path.basename(path), "outputs")
    if shelf.find_whole(folder, tree.hash_fingerprints(here), None) is None:
        store(Place(path), folder, sorted(here))


def _is_within(path: str, places: Container[str]) -> bool:
    """It is one of the places, or below one."""
    while path not in places:
        path, name = os.path.split(path)
        if not name:
            return False
    return True


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
    saving = {run.job for _, run in checkpoints.carried()}
    for job_id in going:
        grace_s = SAVING_GRACE_S if job_id in saving else STOP_GRACE_S
        try:
            jobs.answer_stop({"id": job_id, "grace_s": grace_s}, b"")
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
