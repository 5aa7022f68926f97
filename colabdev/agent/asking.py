"""Having a job save before its machine ends: it is asked to, and what it saves is made safe.

A job is asked as its project says: by a signal, which goes to those of its processes that catch it and
have no ancestor among them that does, or by a file that appears in the work dir. A signal that nobody
catches would end the job, so it is not sent.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple

from . import checkpoints, claims, jobdir, manifest, processes
from .carrier_files import CarrierFiles, Run
from .jobdir import JobFiles
from .states import describe

Answer = Tuple[Dict[str, Any], bytes]

_LEAST_LEAD_S = 120.0
_SAVING_S = 60.0
"""What a trainer may take until it has saved."""
_MARGIN = 2.0
"""So many times what the slowest of the last checkpoints took to become safe."""
_COUNTED = 3
_AGAIN_S = 60.0
"""Whoever asks so soon after another means the same checkpoint."""
_PAUSE_S = 0.5
_CLOCK_S = 0.1
"""The times of files lag behind the clock by less."""


class Asked(NamedTuple):
    """A job was asked to save at `time`, or was not, and why."""

    time: float
    problem: str = ""


def answer_lead(arguments: Dict[str, Any], body: bytes) -> Answer:
    """The `jobs` that can be asked to save now, and how long before the machine's end that is to be."""
    runs = running()
    return {"jobs": [run.job for _files, run in runs], "lead_s": lead_s(runs)}, b""


def save(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Ask every job to save, and have what it saves brought as far as its stores can prove, or until
    `timeout_s` is over. Of one that cannot be asked it is the newest that there is.

    Frames: `{"asked"}`, how many could be; `{"end", "jobs"}`, of each `job`, the `row` of the
    checkpoint, whether it was `saved` for this and `is_safe`, and the `problem`.
    """
    deadline = time.monotonic() + float(arguments["timeout_s"])
    runs = [(files, run, ask(files, run)) for files, run in running()]
    yield {"asked": sum(not asked.problem for _files, _run, asked in runs)}, b""
    yield {"end": True, "jobs": [_secure(*one, deadline) for one in runs]}, b""


def _secure(files: CarrierFiles, run: Run, asked: Asked, deadline: float) -> Dict[str, Any]:
    """Wait until what the job saves is safe, or there is no more to wait for."""
    while True:
        left_s = max(deadline - time.monotonic(), _PAUSE_S)
        *_, (end, _body) = checkpoints.push({"job": run.job, "timeout_s": left_s}, b"")
        row, problem = end["row"], asked.problem or end["problem"]
        has_saved = row is not None and row["saved"] >= asked.time - _CLOCK_S
        is_over = asked.problem or (has_saved and not problem)
        if is_over or time.monotonic() >= deadline or not _runs(files.job):
            break
        time.sleep(_PAUSE_S)
    if not (has_saved or problem):
        problem = "it has saved nothing since it was asked"
    told = {"job": run.job, "row": row, "saved": has_saved, "is_safe": end["is_safe"]}
    return dict(told, problem=problem)


def ask(files: CarrierFiles, run: Run) -> Asked:
    """Ask the job to save now, unless somebody just did."""
    now = time.time()
    earlier = _asked_before(files)
    if now - _AGAIN_S < earlier <= now:
        return Asked(earlier)
    problem = _ask(files.job, run)
    if not problem:
        os.makedirs(files.directory, mode=0o700, exist_ok=True)
        jobdir.write_document(files.asked, {"time": now})
    return Asked(now, problem)


def lead_s(runs: Iterable[Tuple[CarrierFiles, Run]]) -> float:
    """How long before the end these jobs are to be asked, by what their checkpoints took so far."""
    ways = [_way_s(files, run) for files, run in runs]
    longest = max(ways, default=0.0)
    return min(max(_SAVING_S + _MARGIN * longest, _LEAST_LEAD_S), manifest.MOST_LEAD_S)


def running() -> List[Tuple[CarrierFiles, Run]]:
    """The jobs of this machine that go on and whose checkpoints are carried."""
    return [(files, run) for files, run in checkpoints.carried() if _runs(files.job)]


def _runs(files: JobFiles) -> bool:
    try:
        return bool(describe(files)["state"] == jobdir.RUNNING)
    except (OSError, jobdir.Unreadable):
        return False


def _way_s(files: CarrierFiles, run: Run) -> float:
    """From when the last ones were saved until they were safe; the longest."""
    known = claims.read_claims(files.journal).newest_first()
    safe = [one for one in known if one.is_safe(run.accept)][:_COUNTED]
    standings = [(one, one.best_standing) for one in safe]
    return max((best.since - one.saved for one, best in standings if best), default=0.0)


def _asked_before(files: CarrierFiles) -> float:
    try:
        return float((jobdir.read_document(files.asked) or {}).get("time", 0.0))
    except (OSError, jobdir.Unreadable, TypeError, ValueError):
        return 0.0


def _ask(files: JobFiles, run: Run) -> str:
    """Ask; why that was not possible, or ""."""
    if run.ask is None:
        return "nothing says how it is asked: set [checkpoints] ask in colabdev.toml"
    if not _runs(files):
        return "it does not run"
    if run.ask.startswith(jobdir.ASK_FILE):
        return _touch(run.workdir, run.ask[len(jobdir.ASK_FILE) :])
    if run.ask not in jobdir.ASK_SIGNALS:
        return "{!r} is no way to ask it".format(run.ask)
    number = signal.Signals["SIG" + run.ask]
    pid = jobdir.read_document(files.pid) or {}
    if not processes.is_alive(pid.get("command"), str(pid.get("boot_id"))):
        return "it does not run"
    catching = processes.first_catching(int(pid["command"]["pid"]), number)
    for one in catching:
        os.kill(one, number)
    return "" if catching else "no process of it catches SIG{} yet".format(run.ask)


def _touch(workdir: str, path: str) -> str:
    place = os.path.join(workdir, *manifest.check_path(path).split("/"))
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        os.utime(handle)
        os.close(handle)
    except OSError as exc:
        return "cannot make {}: {}".format(path, exc.strerror or exc)
    return ""
