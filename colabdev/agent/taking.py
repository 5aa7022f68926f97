"""Taking a checkpoint that a trainer wrote: hashed, held, and with a manifest of ours.

Held means that its files stay as they were when they were hashed, whatever the trainer does to his: what
has a manifest never changes and is linked, what may be written over is copied.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import Any, Dict, List, NamedTuple, Optional

from . import finding, manifest
from .carrier_files import CarrierFiles, Run
from .child import Say
from .claims import Claims
from .finding import Candidate
from .manifest import BadManifest, FileEntry, Manifest

_TAKING = ".taking"
_PIECE_BYTES = 1024 * 1024
RESERVE_BYTES = 64 * 1024 * 1024
"""A disk that has less room than this is left to the trainer."""


class Changed(Exception):
    """The trainer went on writing: it will be looked at again."""


class Taken(NamedTuple):
    """The files of a checkpoint as they are held, and what the trainer's manifest says beside them."""

    files: List[FileEntry]
    step: Optional[int]
    about: Dict[str, Any]


def take(candidate: Candidate, run: Run, files: CarrierFiles, claims: Claims, say: Say) -> None:
    """Hold the candidate; says `found`, or `known` (the name of the same), or `rejected` (why)."""
    staging = os.path.join(files.held, _TAKING)
    shutil.rmtree(staging, ignore_errors=True)
    os.makedirs(staging, mode=0o700)
    os.makedirs(files.manifests, mode=0o700, exist_ok=True)
    try:
        if candidate.kind == manifest.WITH_MANIFEST:
            taken = _take_described(candidate.path, staging, say)
        else:
            taken = _take_bare(candidate, staging, say)
        if finding.look_at(candidate.path) != candidate:
            raise Changed("it changed while it was read")
    except (BadManifest, Changed) as exc:
        shutil.rmtree(staging, ignore_errors=True)
        say({"rejected": str(exc)})
        return
    source = os.path.basename(candidate.path)
    whole = Manifest(
        files=tuple(taken.files),
        step=taken.step,
        attempt=run.attempt,
        job=run.job,
        source=source,
        kind=candidate.kind,
        saved=candidate.saved,
        about={**taken.about, "runtime": run.runtime},
    )
    same = claims.with_content(run.attempt, taken.step, whole.sha256)
    if same is not None and same.is_local:
        shutil.rmtree(staging, ignore_errors=True)
        say({"known": same.name})
        return
    name = same.name if same else _name(run, taken.step, source, whole.sha256, claims)
    _place(whole._replace(name=name), staging, files)
    after = claims.step_before(candidate.saved) if taken.step is None else taken.step
    say(
        {
            "found": name,
            "step": taken.step,
            "after_step": after,
            "attempt": run.attempt,
            "saved": candidate.saved,
            "size_bytes": whole.size_bytes,
            "sha256": whole.sha256,
            "source": candidate.path,
            "is_best": _is_best(source, taken),
        }
    )


def free_bytes(path: str) -> int:
    """The room on the disk of that directory."""
    seen = os.statvfs(path)
    return seen.f_bavail * seen.f_frsize


def forget_unknown(files: CarrierFiles, claims: Claims) -> None:
    """Remove what was held for a checkpoint that nobody wrote down, or that was given up."""
    for name in os.listdir(files.held) if os.path.isdir(files.held) else []:
        known = claims.checkpoints.get(name)
        if known is None or not known.is_local:
            shutil.rmtree(files.held_at(name), ignore_errors=True)


def _take_described(path: str, staging: str, say: Say) -> Taken:
    """Link what the trainer's manifest names, and see that it is what it says."""
    theirs = manifest.read(path)
    entries = []
    for entry in theirs.files:
        parts = entry.path.split("/")
        target = os.path.join(staging, *parts)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            _hold(os.path.join(path, *parts), target)
        except FileNotFoundError as exc:
            raise BadManifest("{} is not there".format(entry.path)) from exc
        found = manifest.digests(target, lambda done: say({"read": done}))
        if (found.size, found.sha256) != (entry.size, entry.sha256):
            raise BadManifest("{} is not what its manifest says".format(entry.path))
        entries.append(found._replace(path=entry.path))
    step = manifest.step_in(os.path.basename(path)) if theirs.step is None else theirs.step
    return Taken(entries, step, dict(theirs.about))


def _take_bare(candidate: Candidate, staging: str, say: Say) -> Taken:
    """Copy what may be written over at any time; where there is no room for that, link it."""
    name = os.path.basename(candidate.path)
    if candidate.kind == manifest.FILE:
        rows = [(candidate.path, name)]
    else:
        relative = [row[0] for row in candidate.stamp]
        rows = [(os.path.join(candidate.path, one), one) for one in relative]
    size = sum(row[2] for row in candidate.stamp)
    has_room = free_bytes(staging) > 2 * size + RESERVE_BYTES
    entries = []
    for source, path in rows:
        target = os.path.join(staging, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            if has_room:
                entry = _copy(source, target, say)
            else:
                _hold(source, target)
                entry = manifest.digests(target, lambda done: say({"read": done}))
        except FileNotFoundError as exc:
            raise Changed("it went away while it was read") from exc
        entries.append(entry._replace(path=path.replace(os.sep, "/")))
    return Taken(entries, manifest.step_in(name), {})


def _hold(source: str, target: str) -> None:
    """A hard link; a copy where the file system has none, or the source is on another disk."""
    if os.path.islink(source):
        raise BadManifest("{} is a link".format(os.path.basename(source)))
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _copy(source: str, target: str, say: Say) -> FileEntry:
    """Copied and hashed in one go: what is held is what was hashed."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(), 0
    with open(source, "rb", buffering=0) as reading, open(target, "xb", buffering=0) as writing:
        while True:
            piece = reading.read(_PIECE_BYTES)
            if not piece:
                break
            writing.write(piece)
            sha256.update(piece)
            md5.update(piece)
            size += len(piece)
            say({"read": size})
    if os.stat(target).st_size != size:
        raise OSError(28, "the disk is full", target)
    return FileEntry("", size, sha256.hexdigest(), md5.hexdigest())


def _place(whole: Manifest, staging: str, files: CarrierFiles) -> None:
    target = files.held_at(whole.name)
    # What a kill left here before it was written down.
    shutil.rmtree(target, ignore_errors=True)
    os.rename(staging, target)
    staged = files.manifest(whole.name) + ".new"
    with open(staged, "wb") as file:
        file.write(manifest.render(whole))
        file.flush()
        os.fsync(file.fileno())
    os.replace(staged, files.manifest(whole.name))


def _name(run: Run, step: Optional[int], source: str, sha256: str, claims: Claims) -> str:
    return manifest.make_name(run.attempt, step, source, sha256, claims.checkpoints)


def _is_best(source: str, taken: Taken) -> bool:
    """The trainer says so, in its manifest (the template by `keep`) or by the name."""
    says_so = True in (taken.about.get("best"), taken.about.get("keep"))
    return says_so or "best" in source.lower()
