"""Finding checkpoints in a store, whoever put them there, and bringing one back, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from functools import partial
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from . import drive, fence, manifest, store_documents
from .child import Say
from .manifest import MANIFEST, BadManifest, Manifest, Start
from .store_requests import messages, open_asked
from .stores import Receipt, Store, StoreError
from .transfer import CHECKPOINTS, CONFIRMED_FOLDER, RUN

Answer = Tuple[Dict[str, Any], bytes]

BEHIND = "behind"
"""Only older ones than `minimum` are to be had."""
NOTHING = "nothing"
"""There is none that verifies."""

_LOOK_S = 2.0
_TOLD_EVERY_S = 0.5
_RESTORING = ".restoring"


class Wanted(NamedTuple):
    """Which checkpoint, from where to where."""

    project: str
    job: str
    to: str
    name: Optional[str]
    minimum: Optional[List[int]]
    wait_s: float
    heeds_proofs: bool = False
    """Nothing older either than what was confirmed of the job's lineage."""


class Found(NamedTuple):
    """A checkpoint in a store, by its manifest."""

    folder: str
    manifest: Manifest
    is_proved: bool
    receipts: Sequence[Receipt] = ()
    """What the store knows its files by, when no listing shows them."""

    @property
    def order(self) -> Tuple[int, int, float]:
        """The higher, the newer."""
        step = self.manifest.step
        return self.manifest.attempt, -1 if step is None else step, self.manifest.saved

    @property
    def level(self) -> str:
        return manifest.CONFIRMED if self.is_proved else manifest.PUBLISHED

    def is_in(self, starts: Mapping[int, Start]) -> bool:
        """It is part of the job as it went on."""
        whole = self.manifest
        runtime = str(whole.about.get("runtime") or "")
        return manifest.is_in_lineage(whole.attempt, whole.step, starts, runtime)

    def content(self, store: Store, number: int) -> Iterator[bytes]:
        """Of its file of that number."""
        if self.receipts:
            return store.recall(self.receipts[number])
        path = "{}/{}".format(self.folder, manifest.stored_path(self.manifest, number))
        return store.fetch(path, self.manifest.files[number].sha256)


def stored(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """What `store` has of `project`: `{"done"}` meanwhile, then `{"end", "runs", "problem"}`.

    A run is `job`, `run` (run.json), and for the one that is `job` also `starts` (what attempts/ says),
    `confirmed` (what confirmed/ says) and `checkpoints` (rows; by their manifests, not verified).
    """
    store = open_asked(arguments)
    project, job = drive.check_part(arguments["project"]), arguments.get("job")
    job = None if job is None else drive.check_part(job)
    for message in messages(partial(_survey, store, project, job)):
        if "end" not in message:
            yield {"done": message.get("done", 0)}, b""
            continue
        yield message, b""


def restore(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Bring the newest checkpoint of the job's lineage that verifies, or `name`, into the folder `to`.

    `minimum` (attempt, step) or null: nothing older is brought, and it is waited for up to `wait_s`
    while that is not to be had; with `proved` the same holds for what `confirmed/` tells of the lineage.
    Frames: `{"done", "size"}` and `{"waiting": (attempt, step)}` meanwhile, then `{"end", "row", "path",
    "rejected": [[name, why]], "problem", "minimum": what it had to be}`. A file comes back as a file, a
    directory as a directory, under the trainer's own name, with the time when it was saved.
    """
    name, minimum = arguments.get("name"), arguments.get("minimum")
    wanted = Wanted(
        project=drive.check_part(arguments["project"]),
        job=drive.check_part(arguments["job"]),
        to=str(arguments["to"]),
        name=None if name is None else str(name),
        minimum=None if minimum is None else [int(one) for one in minimum],
        wait_s=float(arguments.get("wait_s") or 0),
        heeds_proofs=bool(arguments.get("proved")),
    )
    for message in messages(partial(restore_from, open_asked(arguments), wanted)):
        yield message, b""


# --- in the process ---------------------------------------------------------------------------------


def _survey(store: Store, project: str, job: Optional[str], say: Say) -> None:
    names = store.names("{}/runs".format(project)) if job is None else [job]
    runs = []
    for number, name in enumerate(names):
        folder = manifest.run_folder(project, name)
        row: Dict[str, Any] = {"job": name, "run": store_documents.load(store, folder, RUN)}
        if job is not None:
            records = fence.records(store, folder)
            row["starts"] = [records[attempt] for attempt in sorted(records)]
            row["confirmed"] = _confirmed(store, folder)
            found = _find(store, folder, row["confirmed"], say)
            starts = fence.starts(row["starts"])
            row["checkpoints"] = [_row(store, one) for one in found if one.is_in(starts)]
        runs.append(row)
        say({"done": number + 1})
    say({"end": True, "runs": runs, "problem": ""})


def restore_from(store: Store, wanted: Wanted, say: Say) -> None:
    """As long as less is to be had than there was, it is looked again: a listing may be late."""
    deadline = time.monotonic() + wanted.wait_s
    while True:
        end = _try(store, wanted, say)
        if end["problem"] != BEHIND or time.monotonic() >= deadline:
            say(end)
            return
        say({"waiting": end["minimum"]})
        time.sleep(min(_LOOK_S, max(deadline - time.monotonic(), 0)))


def _try(store: Store, wanted: Wanted, say: Say) -> Dict[str, Any]:
    """Bring it; what came of that."""
    folder = manifest.run_folder(wanted.project, wanted.job)
    starts = fence.starts(fence.records(store, folder).values())
    confirmed = _confirmed(store, folder)
    minimum = _at_least(wanted, confirmed, starts)
    rejected: List[List[str]] = []
    end: Dict[str, Any] = {"end": True, "row": None, "path": None, "rejected": rejected}
    end["minimum"] = minimum
    for one in _find(store, folder, confirmed, say):
        if wanted.name not in (None, one.manifest.name):
            continue
        if wanted.name is None and not one.is_in(starts):
            continue
        if minimum is not None and list(one.order[:2]) < minimum:
            return {**end, "row": _row(store, one), "problem": BEHIND}
        try:
            path = _bring(store, one, wanted.to, say)
        except (BadManifest, StoreError, FileNotFoundError) as exc:
            rejected.append([one.manifest.name, str(exc)])
            continue
        return {**end, "row": _row(store, one), "path": path, "problem": ""}
    return {**end, "problem": NOTHING if minimum is None else BEHIND}


def _at_least(
    wanted: Wanted, confirmed: List[Dict[str, Any]], starts: Mapping[int, Start]
) -> Optional[List[int]]:
    """Attempt and step that must not be fallen behind; None for none."""
    marks = [] if wanted.minimum is None else [wanted.minimum]
    for one in confirmed if wanted.heeds_proofs else []:
        attempt, step = one.get("attempt"), one.get("step")
        if not isinstance(attempt, int) or not isinstance(step, (int, type(None))):
            continue
        if manifest.is_in_lineage(attempt, step, starts):
            marks.append([attempt, -1 if step is None else step])
    return max(marks, default=None)


def _confirmed(store: Store, folder: str) -> List[Dict[str, Any]]:
    place = "{}/{}".format(folder, CONFIRMED_FOLDER)
    return list(store_documents.load_all(store, place).values())


def _find(store: Store, folder: str, confirmed: List[Dict[str, Any]], say: Say) -> List[Found]:
    """The checkpoints of a run that have a manifest, newest first. What was confirmed and is in no
    listing is asked for by what the store knew it by."""
    proved = {(one.get("name"), one.get("sha256")) for one in confirmed}
    place = "{}/{}".format(folder, CHECKPOINTS)
    listed = []
    for number, name in enumerate(store.names(place)):
        say({"done": number})
        path = "{}/{}".format(place, name)
        whole = _manifest(partial(store_documents.read, store, "{}/{}".format(path, MANIFEST)))
        if whole is not None:
            listed.append(Found(path, whole, (whole.name, whole.sha256) in proved))
    names = {one.manifest.name for one in listed}
    for one in confirmed:
        receipts = one.get("receipts") or []
        if receipts and one.get("name") not in names:
            whole = _manifest(partial(_recalled, store, receipts[-1]))
            if whole is not None and (whole.name, whole.sha256) in proved:
                listed.append(Found("{}/{}".format(place, whole.name), whole, True, receipts))
    return sorted(listed, key=lambda one: one.order, reverse=True)


def _manifest(read: Callable[[], bytes]) -> Optional[Manifest]:
    """What has no manifest that can be read is no checkpoint."""
    try:
        return manifest.parse(read())
    except (BadManifest, StoreError, OSError):
        return None


def _recalled(store: Store, receipt: Receipt) -> bytes:
    return b"".join(store.recall(receipt))


def _bring(store: Store, one: Found, to: str, say: Say) -> str:
    """Its files, each verified, under the trainer's name in `to`; returns that path."""
    whole = one.manifest
    staging = os.path.join(to, "{}-{}".format(_RESTORING, os.getpid()))
    shutil.rmtree(staging, ignore_errors=True)
    os.makedirs(staging)
    done, told_at = 0, 0.0
    try:
        for number, entry in enumerate(whole.files):
            target = os.path.join(staging, *entry.path.split("/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            digest = hashlib.sha256()
            with open(target, "wb") as file:
                for piece in one.content(store, number):
                    file.write(piece)
                    digest.update(piece)
                    done += len(piece)
                    if time.monotonic() >= told_at:
                        told_at = time.monotonic() + _TOLD_EVERY_S
                        say({"done": done, "size": whole.size_bytes})
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != entry.sha256:
                raise BadManifest("{} has not its hash".format(entry.path))
        return put_in_place(whole, staging, to)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def put_in_place(whole: Manifest, staging: str, to: str) -> str:
    """What the trainer finds: his file, or his directory; one that is there and whole stays."""
    source = drive.check_part(whole.source or whole.name)
    final = os.path.join(to, source)
    if whole.kind == manifest.FILE:
        staged = os.path.join(staging, *whole.files[0].path.split("/"))
        os.utime(staged, (whole.saved, whole.saved))
        os.replace(staged, final)
        return final
    if whole.kind == manifest.WITH_MANIFEST:
        with open(os.path.join(staging, MANIFEST), "wb") as file:
            file.write(manifest.render(whole))
    for parent, _, names in os.walk(staging):
        for name in names:
            os.utime(os.path.join(parent, name), (whole.saved, whole.saved))
    if os.path.isdir(final):
        if manifest.damage(final, whole) is None:
            return final
        # Not deleted: it may be all that there is of something.
        os.rename(final, "{}.damaged-{}".format(final, time.time_ns()))
    os.rename(staging, final)
    return final


def _row(store: Store, one: Found) -> Dict[str, Any]:
    """As a row of `checkpoint.list`."""
    whole = one.manifest
    return {
        "name": whole.name,
        "step": whole.step,
        "attempt": whole.attempt,
        "saved": whole.saved,
        "level": one.level,
        "unproven": False,
        "store": store.name,
        "path": one.folder,
        "size_bytes": whole.size_bytes,
        "sha256": whole.sha256,
        "levels": {store.name: one.level},
        "local": False,
        "since": whole.saved,
    }
