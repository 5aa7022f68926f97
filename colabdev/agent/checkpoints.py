"""The requests about the checkpoints of this machine's jobs: how they stand, and what is to be done."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from . import carriers, claims, credentials, drive, jobdir, jobs, manifest, retention
from .arrival import Patience
from .carrier_files import CarrierFiles, Run, run_of
from .child import Child
from .claims import LEVEL, ON_DISK, REFUTED, REMOVED, SENDING, Checkpoint, Claims, Journal
from .jobdir import JobFiles
from .lane import guarded
from .opening import open_store
from .refusal import Refusal
from .states import describe
from .transfer import CHECKPOINTS, Transfer

Answer = Tuple[Dict[str, Any], bytes]

_POLL_S = 0.1
_SENT_BYTES = 256 * 1024
_STALL_S = 60.0


def answer_list(arguments: Dict[str, Any], body: bytes) -> Answer:
    """How the checkpoints of each job stand, of `runtime` and `job` when those are given. Reads what is
    written down here; touches no store."""
    told = []
    for files, run in carried(arguments.get("runtime"), arguments.get("job")):
        told.append(_standing(files, run))
    return {"jobs": told}, b""


def push(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Have a checkpoint brought as far as its stores can prove, or until `timeout_s` is over.

    `job`, `name` or null for the newest, also one that has not settled yet. Frames: `{"row"}` at each
    change; `{"end", "row", "is_safe", "problem"}`. It is over when it is safe, or nothing more can be
    had.
    """
    files, run = _existing(arguments)
    name = arguments.get("name")
    if name is not None:
        _checkpoint(files, name)
    deadline = time.monotonic() + float(arguments["timeout_s"])
    number = max(time.time_ns(), int((_read(files.ask) or {}).get("number", 0)) + 1)
    os.makedirs(files.directory, mode=0o700, exist_ok=True)
    jobdir.write_document(files.ask, {"number": number, "checkpoint": name})
    said: Optional[Dict[str, Any]] = None
    target: Optional[Checkpoint] = None
    one: Optional[Checkpoint] = None
    problem = "it is not done in time"
    journal = _journal(files.journal)
    while time.monotonic() < deadline:
        carriers.revive(files)
        journal.refresh()
        found = journal.claims
        told = _read(files.told) or {}
        is_taken = name is not None or told.get("answered", 0) >= number
        if target is None:
            one = found.newest() if name is None else found.checkpoints.get(str(name))
            target = one if is_taken else None
        else:
            one = _furthest(found, target, run) if name is None else found.checkpoints[target.name]
        row = claims.row_of(one) if one else None
        if row != said:
            said = row
            yield {"row": row}, b""
        if is_taken and (one is None or one.is_safe(run.accept) or _is_as_far(one, run)):
            problem = ""
            break
        time.sleep(_POLL_S)
    told = _read(files.told) or {}
    why = explain(told.get("problems", {}))
    # Before the target is known, a newer one may be on the disk than is said.
    is_safe = target is not None and one is not None and one.is_safe(run.accept)
    end = {"end": True, "row": said, "is_safe": is_safe, "problem": problem and (why or problem)}
    yield end, b""


def verify(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Prove again what is claimed, of `names` or all: `{"name", "store", "level", "problem"}` for each
    store and the disk, then `{"end"}`. A claim that fails is taken back."""
    files, run = _existing(arguments)
    journal = Journal(files.journal)
    journal.refresh()
    names = arguments.get("names")
    for one in journal.claims.newest_first():
        if names is not None and one.name not in names:
            continue
        if one.is_local:
            problem = _verify_held(files, one) or ""
            yield _verified(one, ON_DISK, manifest.LOCAL, problem), b""
            if problem:
                journal.write(REMOVED, one.name, store=ON_DISK)
        for standing in list(one.tries):
            if standing.is_over or not standing.receipts:
                continue
            transfer = Transfer(open_store(standing.store, run, files), run, files, Patience())
            last = _outcome(Child(partial(guarded, partial(transfer.check, one, standing))))
            problem = str(last.get("why") or last.get("problem") or "")
            yield _verified(one, standing.store, standing.level, problem), b""
            if last.get("event") == REFUTED:
                which = {"store": standing.store, "try": standing.number}
                journal.write(REFUTED, one.name, why=problem, **which)
    yield {"end": True}, b""
    carriers.revive(files)


def answer_manifest(arguments: Dict[str, Any], body: bytes) -> Answer:
    """The row of the checkpoint `name` of `job`, and its manifest."""
    files, _ = _existing(arguments)
    one = _checkpoint(files, arguments["name"])
    with open(files.manifest(one.name), "rb") as file:
        return {"row": claims.row_of(one)}, file.read()


def fetch(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Send a file of a checkpoint that is held here from `offset` on: `{"size"}`, bytes, `{"end"}`."""
    files, _ = _existing(arguments)
    one = _checkpoint(files, arguments["name"])
    path = manifest.check_path(arguments["path"])
    with open(os.path.join(files.held_at(one.name), *path.split("/")), "rb") as file:
        yield {"size": os.fstat(file.fileno()).st_size}, b""
        file.seek(int(arguments.get("offset", 0)))
        for piece in drive.pieces(file, _SENT_BYTES):
            yield {}, piece
    yield {"end": True}, b""


def answer_confirm(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Somebody has a verified copy of the content with that `sha256`, at `path`: it is CONFIRMED."""
    files, _ = _existing(arguments)
    journal = Journal(files.journal)
    journal.refresh()
    one = _checkpoint(files, arguments["name"])
    if arguments["sha256"] != one.sha256:
        raise Refusal("the copy of {} is of another content".format(one.name))
    if one.current(manifest.PULL) is None:
        which = {"store": manifest.PULL, "try": one.numbers.get(manifest.PULL, 0) + 1}
        place = str(arguments.get("path") or "")
        journal.write(SENDING, one.name, place=place, **which)
        journal.write(LEVEL, one.name, level=manifest.CONFIRMED, **which)
    carriers.revive(files)  # It is to be written down in the stores, too.
    return {"row": claims.row_of(journal.claims.checkpoints[one.name])}, b""


def answer_prune(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Let go what is not among the newest `keep`, nor needed to be safe; with `check_only` only say so.

    Answer: `removed` as `[name, store, bytes]`, `kept` as `[name, why]`. The stores delete it in their
    own time; the trainer's own files stay.
    """
    files, run = _existing(arguments)
    journal = Journal(files.journal)
    journal.refresh()
    keep = max(int(arguments.get("keep") or run.keep), 2)
    found = journal.claims
    removed = []
    # From the disk first: what is held here and not in a store would be brought there again.
    for one in retention.releasable(found, keep, run.accept):
        removed.append([one.name, ON_DISK, one.size_bytes])
        if not arguments.get("check_only"):
            journal.write(REMOVED, one.name, store=ON_DISK)
            shutil.rmtree(files.held_at(one.name), ignore_errors=True)
    for store in sorted(set(run.stores) - {manifest.PULL}):
        for one, standing in retention.removable(found, store, keep, run.accept):
            removed.append([one.name, store, one.size_bytes])
            if not arguments.get("check_only"):
                journal.write(REMOVED, one.name, store=store, **{"try": standing.number})
    if removed and not arguments.get("check_only"):
        carriers.revive(files)
    kept = sorted(retention.kept(found, keep, run.accept).items())
    return {"removed": removed, "kept": [list(row) for row in kept]}, b""


def carried(runtime: object = None, job: object = None) -> Iterator[Tuple[CarrierFiles, Run]]:
    """The jobs whose checkpoints somebody wanted to be carried, of that runtime, or that one alone."""
    root = jobs.root()
    names = sorted(os.listdir(root)) if os.path.isdir(root) else []
    for name in [str(job)] if job is not None else names:
        if not jobdir.is_job_id(name):
            continue
        files = JobFiles(os.path.join(root, name))
        with suppress(OSError, jobdir.Unreadable, KeyError):
            run = run_of(files)
            if run is not None and runtime in (None, run.runtime):
                yield CarrierFiles(files, run.workdir), run


def explain(problems: Mapping[str, str]) -> str:
    """What keeps the stores from taking a checkpoint, as one sentence."""
    return "; ".join("{}: {}".format(*item) for item in sorted(problems.items()))


def _existing(arguments: Dict[str, Any]) -> Tuple[CarrierFiles, Run]:
    files = jobs.existing(arguments["job"])
    run = run_of(files)
    if run is None:
        raise Refusal(
            "nobody keeps the checkpoints of {!r}".format(files.id),
            "set [checkpoints] dir in colabdev.toml before the job starts",
        )
    return CarrierFiles(files, run.workdir), run


def _checkpoint(files: CarrierFiles, name: object) -> Checkpoint:
    one = claims.read_claims(files.journal).checkpoints.get(str(name))
    if one is None:
        raise Refusal(
            "the job {} has no checkpoint {!r}".format(files.job.id, name),
            "colabdev checkpoints ls",
        )
    return one


@lru_cache(maxsize=64)
def _journal(path: str) -> Journal:
    """The same one each time: whoever asks every second has only what is new read."""
    return Journal(path)


def _standing(files: CarrierFiles, run: Run) -> Dict[str, Any]:
    """One job, as `checkpoint.list` tells it."""
    journal = _journal(files.journal)
    journal.refresh()
    found = journal.claims
    told = _read(files.told) or {}
    is_running = carriers.runs(files)
    state = describe(files.job)
    has_ended = state["state"] in jobdir.ENDED_STATES
    if has_ended and not is_running and told.get("state") != "ended":
        with suppress(OSError):
            carriers.revive(files)  # It was killed, and its supervisor is no more.
    newest, safe = found.newest(), found.safe(run.accept)
    problems = dict(told.get("problems") or {})
    if told.get("problem"):
        problems[ON_DISK] = told["problem"]
    return {
        "job": run.job,
        "attempt": run.attempt,
        "accept": run.accept,
        "stores": run.stores,
        "folder": "{}/{}".format(run.folder, CHECKPOINTS),
        "runs": is_running,
        "state": told.get("state"),
        "problems": problems,
        "rejected": told.get("rejected") or {},
        "token": credentials.state(run.unattended) if manifest.DRIVEAPI in run.stores else None,
        "newest": claims.row_of(newest) if newest else None,
        "safe": claims.row_of(safe) if safe else None,
        "is_safe": newest is None or newest.is_safe(run.accept),
        "at_risk_steps": _steps_at_risk(newest, safe),
        "at_risk_s": _seconds_at_risk(newest, safe, state),
        "checkpoints": list(claims.rows(found)),
    }


def _steps_at_risk(newest: Optional[Checkpoint], safe: Optional[Checkpoint]) -> Optional[int]:
    """From the newest that is safe to the newest; None where no steps are known."""
    if newest is None or newest.after_step < 0:
        return None
    return newest.after_step - (max(safe.after_step, 0) if safe else 0)


def _seconds_at_risk(
    newest: Optional[Checkpoint], safe: Optional[Checkpoint], state: Dict[str, Any]
) -> Optional[float]:
    """The work since the newest that is safe, as time; None before the job runs."""
    if state["started"] is None:
        return None
    if state["ended"] is not None and newest is not None and newest is safe:
        return 0.0
    since = safe.saved if safe else float(state["started"])
    return max(float(state["ended"] or time.time()) - since, 0.0)


def _furthest(found: Claims, target: Checkpoint, run: Run) -> Checkpoint:
    """That one, or a newer one that got further: while the trainer goes on, the newest of all may never
    be done."""
    newer = [one for one in found.checkpoints.values() if one.level and one.order >= target.order]
    for is_done in (lambda one: one.is_safe(run.accept), lambda one: _is_as_far(one, run)):
        done = [one for one in newer if is_done(one)]
        if done:
            return max(done, key=lambda one: one.order)
    return max(newer, key=lambda one: manifest.rank_of(one.level), default=target)


def _is_as_far(one: Checkpoint, run: Run) -> bool:
    """Every store that this machine brings it to has it as far as it can prove."""
    for store in run.stores:
        standing = one.current(store)
        if store == manifest.PULL:
            continue
        if standing is None or not standing.level:
            return False
        is_done = manifest.is_enough(standing.level, manifest.BEST[store])
        if not is_done and not standing.is_unproven:
            return False
    return True


def _verify_held(files: CarrierFiles, one: Checkpoint) -> Optional[str]:
    with open(files.manifest(one.name), "rb") as file:
        return manifest.damage(files.held_at(one.name), manifest.parse(file.read()))


def _verified(one: Checkpoint, store: str, level: str, problem: str) -> Dict[str, Any]:
    return {"name": one.name, "store": store, "level": level, "problem": problem}


def _outcome(child: Child) -> Dict[str, Any]:
    """The last thing that it says; that it hangs, when it says nothing for long."""
    while True:
        child.wait(_STALL_S)
        child.messages()
        if child.fd < 0:
            child.join()
            return child.last or {"problem": "it was interrupted"}
        if time.monotonic() - child.heard > _STALL_S:
            child.kill()
            return {"problem": "it does not answer"}


def _read(path: str) -> Optional[Dict[str, Any]]:
    try:
        return jobdir.read_document(path)
    except (OSError, jobdir.Unreadable):
        return None
