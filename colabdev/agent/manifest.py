"""What both ends must agree on about checkpoints: their levels, their manifest, their order and names.

A checkpoint is a directory of files and `MANIFEST.json`, which is written last and tells the size and
the hashes of each. One without a manifest that verifies is none. Trainers write their own manifest
(`templates/pytorch/checkpoint.py`); for those that do not the carrier makes one. What goes to a store is
always ours: the trainer's, with `schema`, `job`, `name` and `attempt` added.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any, Callable, Container, Dict, Mapping, NamedTuple, Optional, Tuple

SCHEMA = 1
MANIFEST = "MANIFEST.json"

LOCAL = "local"
"""Whole on the runtime's disk; lost with it."""
ACCEPTED = "accepted"
"""A store was handed all of it, and nobody knows more."""
COMMITTED = "committed"
"""The store says that all data has arrived."""
PUBLISHED = "published"
"""So has the manifest, which was written after that: any machine finds it there."""
CONFIRMED = "confirmed"
"""Somebody other than the writer proved the bytes."""

LEVELS = (LOCAL, ACCEPTED, COMMITTED, PUBLISHED, CONFIRMED)
"""From the lowest up; each is claimed only after its proof."""

DRIVEFS = "drivefs"
DRIVEAPI = "driveapi"
DISK = "local"
PULL = "pull"
STORES = (DRIVEFS, DRIVEAPI, DISK, PULL)
BEST = {DRIVEFS: PUBLISHED, DRIVEAPI: CONFIRMED, DISK: CONFIRMED, PULL: CONFIRMED}
"""The highest level that each store can prove alone."""

WITH_MANIFEST = "manifest"
FILE = "file"
FOLDER = "folder"
KINDS = (WITH_MANIFEST, FILE, FOLDER)
"""What a trainer wrote: a directory with a manifest of its own, a file, or a directory without."""

MOST_ENTRIES = 90
"""So many entries a folder on Drive has at most."""

_OURS = frozenset(
    {"schema", *(["job", "name", "step", "attempt", "source", "kind", "saved", "files"])}
)
_PIECE_BYTES = 1024 * 1024
_STEP = re.compile(r"[0-9]+")


class BadManifest(Exception):
    """It is not a manifest, or what it speaks of is not there as it says; one sentence."""


class FileEntry(NamedTuple):
    """A file of a checkpoint. `path` is relative, with `/`; the hashes are hex."""

    path: str
    size: int
    sha256: str
    md5: str


class Manifest(NamedTuple):
    """What a manifest says. `about` is all that is not listed here, as it was written."""

    files: Tuple[FileEntry, ...]
    step: Optional[int] = None
    attempt: int = 1
    job: str = ""
    name: str = ""
    source: str = ""
    """What the trainer called it, one part of a path: so it is called again when it is restored."""
    kind: str = WITH_MANIFEST
    saved: float = 0.0
    """When the trainer wrote it, in seconds since 1970."""
    about: Mapping[str, Any] = {}

    @property
    def size_bytes(self) -> int:
        """Of its files together, without the manifest."""
        return sum(entry.size for entry in self.files)

    @property
    def sha256(self) -> str:
        """Names the content: the hash of the files' hashes and paths, whoever wrote the manifest."""
        lines = sorted("{} {}\n".format(entry.sha256, entry.path) for entry in self.files)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def rank_of(level: str) -> int:
    """Where a level stands among LEVELS; ValueError for what is none."""
    return LEVELS.index(level)


def is_enough(level: str, accept: str) -> bool:
    """Whether a checkpoint of that level is safe where `accept` (PUBLISHED or CONFIRMED) is asked."""
    return rank_of(level) >= rank_of(accept)


def render(manifest: Manifest) -> bytes:
    """The bytes of MANIFEST.json, the same for the same manifest."""
    document: Dict[str, Any] = {
        **manifest.about,
        "schema": SCHEMA,
        "job": manifest.job,
        "name": manifest.name,
        "step": manifest.step,
        "attempt": manifest.attempt,
        "source": manifest.source,
        "kind": manifest.kind,
        "saved": manifest.saved,
        "files": [entry._asdict() for entry in manifest.files],
    }
    return json.dumps(document, indent=1, sort_keys=True).encode("ascii") + b"\n"


def parse(content: bytes) -> Manifest:
    """What those bytes say; BadManifest when they are no manifest or name a file outside."""
    try:
        document = json.loads(content.decode("utf-8"))
        entries = tuple(_entry(row) for row in document["files"])
        step = document.get("step")
        kind = document.get("kind")
        manifest = Manifest(
            entries,
            None if step is None else int(step),
            int(document.get("attempt") or 1),
            str(document.get("job") or ""),
            str(document.get("name") or ""),
            str(document.get("source") or ""),
            kind if kind in KINDS else WITH_MANIFEST,
            float(document.get("saved") or 0.0),
            {key: value for key, value in document.items() if key not in _OURS},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise BadManifest("its {} cannot be read: {}".format(MANIFEST, exc)) from exc
    if len({entry.path for entry in entries}) != len(entries) or not entries:
        raise BadManifest("its {} names no file, or one twice".format(MANIFEST))
    return manifest


def read(directory: str) -> Manifest:
    """The manifest of the checkpoint in that directory; BadManifest, or OSError when it has none."""
    with open(os.path.join(directory, MANIFEST), "rb") as file:
        return parse(file.read())


def check_path(path: object) -> str:
    """`path`, when it is that of a file below a checkpoint; ValueError otherwise."""
    if not isinstance(path, str) or not path or path.startswith("/") or "\\" in path:
        raise ValueError("{!r} is no path in a checkpoint".format(path))
    if any(part in ("", ".", "..") or "\0" in part for part in path.split("/")):
        raise ValueError("{!r} leads out of the checkpoint".format(path))
    if path == MANIFEST:
        raise ValueError("it lists itself")
    return path


def digests(path: str, told: Callable[[int], None] = lambda done: None) -> FileEntry:
    """Size and hashes of the file; `told` hears how many bytes were read so far. OSError."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(), 0
    with open(path, "rb", buffering=0) as file:
        while True:
            piece = file.read(_PIECE_BYTES)
            if not piece:
                return FileEntry(os.path.basename(path), size, sha256.hexdigest(), md5.hexdigest())
            sha256.update(piece)
            md5.update(piece)
            size += len(piece)
            told(size)


def damage(directory: str, manifest: Manifest) -> Optional[str]:
    """What is wrong with the files in `directory`, in words; None when every hash verifies."""
    for entry in manifest.files:
        path = os.path.join(directory, *entry.path.split("/"))
        try:
            if os.path.islink(path) or os.stat(path).st_size != entry.size:
                return "{} has not its size".format(entry.path)
            if digests(path).sha256 != entry.sha256:
                return "{} has not its hash".format(entry.path)
        except OSError as exc:
            return "{} cannot be read: {}".format(entry.path, exc.strerror or exc)
    return None


def step_in(name: str) -> Optional[int]:
    """The step that a name tells: its last number (`step-000135`, `epoch=3-step=400.ckpt`)."""
    numbers = _STEP.findall(os.path.splitext(name)[0])
    return int(numbers[-1]) if numbers else None


def make_name(
    attempt: int, step: Optional[int], source: str, sha256: str, taken: Container[str]
) -> str:
    """The name of a checkpoint, which is never given twice to other content: `<attempt>-<step>`, or with
    the beginning of its hash where a step came twice or there is none."""
    if step is not None:
        name = "{}-{}".format(attempt, step)
        return name if name not in taken else "{}-{}".format(name, sha256[:8])
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", os.path.splitext(source)[0]).strip("_")[:40]
    return "{}-{}-{}".format(attempt, stem or "checkpoint", sha256[:8])


def stored_path(manifest: Manifest, number: int) -> str:
    """Where a store has the file of that number, below the checkpoint's folder: by its own path, unless
    that would make a folder of a hundred entries or more, which Drive lists badly."""
    if len(manifest.files) <= MOST_ENTRIES:
        return manifest.files[number].path
    return "parts/{:03d}/{:05d}".format(number // MOST_ENTRIES, number)


def run_folder(project: str, job: str) -> str:
    """Where a store keeps a job, below its own root."""
    return "{}/runs/{}".format(project, job)


class Start(NamedTuple):
    """Where an attempt began: at no checkpoint, or at that `step` of that earlier attempt."""

    attempt: int
    from_attempt: Optional[int] = None
    from_step: Optional[int] = None
    runtime: str = ""
    """The machine that it is; "" when nobody wrote that down."""


def is_in_lineage(
    attempt: int, step: Optional[int], starts: Mapping[int, Start], runtime: str = ""
) -> bool:
    """Whether what `attempt` saved at `step` on `runtime` is part of the job as it went on: the newest
    attempt, and of each before it the steps up to where its successor began. An attempt that began
    anew ends it, and what another machine saved under its number never was."""
    known = starts.get(attempt)
    if known is not None and runtime and known.runtime and known.runtime != runtime:
        return False
    current = max(starts, default=attempt)
    limit: Optional[int] = None
    while current > attempt:
        start = starts.get(current)
        if start is None or start.from_attempt is None or start.from_attempt >= current:
            return False
        current, limit = start.from_attempt, start.from_step
    return current == attempt and (limit is None or (step is not None and step <= limit))


def _entry(row: Mapping[str, Any]) -> FileEntry:
    size, sha256 = row["size"], row["sha256"]
    if not isinstance(size, int) or size < 0 or not re.fullmatch("[0-9a-f]{64}", str(sha256)):
        raise ValueError("an entry makes no sense")
    return FileEntry(check_path(row["path"]), size, sha256, str(row.get("md5") or ""))
