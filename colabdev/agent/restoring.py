"""Finding checkpoints in a store, whoever put them there, and bringing one back, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from functools import partial
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import drive, manifest
from .child import Child, Message, Say
from .drive_http import API_URL
from .manifest import MANIFEST, BadManifest, Manifest, Start
from .opening import open_named
from .stores import Store, StoreError
from .transfer import ATTEMPTS, CHECKPOINTS, CONFIRMED_FOLDER, RUN

Answer = Tuple[Dict[str, Any], bytes]

BEHIND = "behind"
"""Only older ones than `minimum` are to be had."""
NOTHING = "nothing"
"""There is none that verifies."""

_STALL_S = 60.0
_MOST_BYTES = 16 * 1024 * 1024
_TOLD_EVERY_S = 0.5
_RESTORING = ".restoring"


class Wanted(NamedTuple):
    """Which checkpoint, from where to where."""

    project: str
    job: str
    to: str
    name: Optional[str]
    minimum: Optional[List[int]]


class Found(NamedTuple):
    """A checkpoint in a store, by its manifest."""

    folder: str
    manifest: Manifest
    level: str

    @property
    def order(self) -> Tuple[int, int, float]:
        """The higher, the newer."""
        step = self.manifest.step
        return self.manifest.attempt, -1 if step is None else step, self.manifest.saved


def stored(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """What `store` has of `project`: `{"done"}` meanwhile, then `{"end", "runs", "problem"}`.

    A run is `job`, `run` (run.json), and for the one that is `job` also `starts` (what attempts/ says),
    `confirmed` (what confirmed/ says) and `checkpoints` (rows; by their manifests, not verified).
    """
    store = _open(arguments)
    project, job = drive.check_part(arguments["project"]), arguments.get("job")
    job = None if job is None else drive.check_part(job)
    for message in _messages(Child(partial(_guarded, partial(_survey, store, project, job)))):
        if "end" not in message:
            yield {"done": message.get("done", 0)}, b""
            continue
        yield message, b""


def restore(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Bring the newest checkpoint of the job's lineage that verifies, or `name`, into the folder `to`.

    `minimum` (attempt, step) or null: nothing older is brought. Frames: `{"done", "size"}` meanwhile,
    then `{"end", "row", "path", "rejected": [[name, why]], "problem"}`. A file comes back as a file, a
    directory as a directory, under the trainer's own name, with the time when it was saved.
    """
    name, minimum = arguments.get("name"), arguments.get("minimum")
    wanted = Wanted(
        project=drive.check_part(arguments["project"]),
        job=drive.check_part(arguments["job"]),
        to=str(arguments["to"]),
        name=None if name is None else str(name),
        minimum=None if minimum is None else [int(one) for one in minimum],
    )
    work = partial(_restore, _open(arguments), wanted)
    for message in _messages(Child(partial(_guarded, work))):
        yield message, b""


def _open(arguments: Dict[str, Any]) -> Store:
    drive_dir = arguments.get("drive_dir")
    api_url = str(arguments.get("api_url") or API_URL)
    return open_named(str(arguments["store"]), drive_dir and str(drive_dir), api_url)


def _messages(child: Child) -> Iterator[Message]:
    """What it says, the last with `end`; one that hangs is given up."""
    has_ended = False
    while not has_ended:
        child.wait(_STALL_S)
        for message in child.messages():
            yield message
            has_ended = has_ended or "end" in message
        if child.fd < 0:
            child.join()
            if not has_ended:
                yield {"end": True, "problem": "it was interrupted"}
            return
        if time.monotonic() - child.heard > _STALL_S:
            child.kill()
            yield {"end": True, "problem": "the store does not answer"}
            return


def _guarded(work: Any, say: Say) -> None:
    try:
        work(say)
    except StoreError as exc:
        say({"end": True, "problem": str(exc)})
    except OSError as exc:
        say({"end": True, "problem": "it fails: {}".format(exc.strerror or exc)})


# --- in the process ---------------------------------------------------------------------------------


def _survey(store: Store, project: str, job: Optional[str], say: Say) -> None:
    names = store.names("{}/runs".format(project)) if job is None else [job]
    runs = []
    for number, name in enumerate(names):
        folder = manifest.run_folder(project, name)
        row: Dict[str, Any] = {"job": name, "run": _document(store, folder, RUN)}
        if job is not None:
            row["starts"] = _documents(store, "{}/{}".format(folder, ATTEMPTS))
            row["confirmed"] = _documents(store, "{}/{}".format(folder, CONFIRMED_FOLDER))
            found = _find(store, folder, row["confirmed"], say)
            row["checkpoints"] = [_row(store, one) for one in found]
        runs.append(row)
        say({"done": number + 1})
    say({"end": True, "runs": runs, "problem": ""})


def _restore(store: Store, wanted: Wanted, say: Say) -> None:
    folder = manifest.run_folder(wanted.project, wanted.job)
    starts = {one.attempt: one for one in _starts(store, folder)}
    confirmed = _documents(store, "{}/{}".format(folder, CONFIRMED_FOLDER))
    rejected: List[List[str]] = []
    end: Dict[str, Any] = {"end": True, "row": None, "path": None, "rejected": rejected}
    for one in _find(store, folder, confirmed, say):
        if wanted.name not in (None, one.manifest.name):
            continue
        if wanted.name is None and not manifest.is_in_lineage(
            one.manifest.attempt, one.manifest.step, starts
        ):
            continue
        if wanted.minimum is not None and list(one.order[:2]) < wanted.minimum:
            say({**end, "row": _row(store, one), "problem": BEHIND})
            return
        try:
            path = _bring(store, one, wanted.to, say)
        except (BadManifest, StoreError, FileNotFoundError) as exc:
            rejected.append([one.manifest.name, str(exc)])
            continue
        say({**end, "row": _row(store, one), "path": path, "problem": ""})
        return
    say({**end, "problem": NOTHING})


def _find(store: Store, folder: str, confirmed: List[Dict[str, Any]], say: Say) -> List[Found]:
    """The checkpoints of a run that have a manifest, newest first."""
    proved = {(one.get("name"), one.get("sha256")) for one in confirmed}
    found = []
    place = "{}/{}".format(folder, CHECKPOINTS)
    for number, name in enumerate(store.names(place)):
        say({"done": number})
        try:
            whole = manifest.parse(_read(store, "{}/{}/{}".format(place, name, MANIFEST)))
        except (BadManifest, StoreError, OSError):
            continue  # What has no manifest that can be read is none.
        is_proved = (whole.name, whole.sha256) in proved
        level = manifest.CONFIRMED if is_proved else manifest.PUBLISHED
        found.append(Found("{}/{}".format(place, name), whole, level))
    return sorted(found, key=lambda one: one.order, reverse=True)


def _bring(store: Store, one: Found, to: str, say: Say) -> str:
    """Its files, each verified, under the trainer's name in `to`; returns that path."""
    whole = one.manifest
    staging = os.path.join(to, "{}-{}".format(_RESTORING, os.getpid()))
    shutil.rmtree(staging, ignore_errors=True)
    os.makedirs(staging)
    done, told_at = 0, 0.0
    try:
        for number, entry in enumerate(whole.files):
            path = "{}/{}".format(one.folder, manifest.stored_path(whole, number))
            target = os.path.join(staging, *entry.path.split("/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            digest = hashlib.sha256()
            with open(target, "wb") as file:
                for piece in store.fetch(path, entry.sha256):
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


def _starts(store: Store, folder: str) -> Iterator[Start]:
    for one in _documents(store, "{}/{}".format(folder, ATTEMPTS)):
        if isinstance(one.get("attempt"), int):
            yield Start(one["attempt"], one.get("from_attempt"), one.get("from_step"))


def _documents(store: Store, folder: str) -> List[Dict[str, Any]]:
    found = [_document(store, folder, name) for name in store.names(folder)]
    return [one for one in found if one is not None]


def _document(store: Store, folder: str, name: str) -> Optional[Dict[str, Any]]:
    """A JSON object in the store; None when there is none that can be read."""
    try:
        document = json.loads(_read(store, "{}/{}".format(folder, name)).decode("utf-8"))
    except (StoreError, OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _read(store: Store, path: str) -> bytes:
    content = b""
    for piece in store.fetch(path):
        content += piece
        if len(content) > _MOST_BYTES:
            raise StoreError("{} is too large".format(path))
    return content


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
