"""The names of what a carrier keeps of its job, and the job as a carrier sees it.

<job directory>/checkpoints/    journal.jsonl, lock, ask.json, told.json, manifests/<name>.json, …
<work dir>/.colabdev/checkpoints/<job>/<name>/    the files of each checkpoint that is kept here
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, NamedTuple, Optional

from . import jobdir, manifest, tree
from .jobdir import JobFiles

DEFAULT_KEEP = 3


class CarrierFiles:
    """The names of one job's."""

    def __init__(self, files: JobFiles, workdir: str) -> None:
        self.job = files
        self.directory = os.path.join(files.directory, "checkpoints")
        self.journal = os.path.join(self.directory, "journal.jsonl")
        self.lock = os.path.join(self.directory, "lock")
        self.ask = os.path.join(self.directory, "ask.json")
        self.told = os.path.join(self.directory, "told.json")
        self.manifests = os.path.join(self.directory, "manifests")
        self.drive_api = os.path.join(self.directory, "driveapi.json")
        self.drive_api_log = os.path.join(self.directory, "driveapi-log.json")
        self.complaints = os.path.join(self.directory, "carrier.log")
        # Beside the trainer's own files: a hard link leads to no other disk.
        self.held = os.path.join(workdir, tree.OURS, "checkpoints", files.id)

    def manifest(self, name: str) -> str:
        """The manifest of that checkpoint, as stores get it."""
        return os.path.join(self.manifests, name + ".json")

    def held_at(self, name: str) -> str:
        """The directory with its files."""
        return os.path.join(self.held, name)


class Run(NamedTuple):
    """A job whose checkpoints are carried, by its spec."""

    job: str
    name: str
    attempt: int
    runtime: str
    workdir: str
    roots: List[str]
    dirs: List[str]
    keep: int
    stores: List[str]
    accept: str
    project: str
    drive_dir: Optional[str]
    api_url: str
    unattended: bool
    """The runtime is to get tokens by itself, when the user's computer is off."""
    created: float
    timing: Dict[str, float]
    spec: Dict[str, Any]

    @property
    def folder(self) -> str:
        """Where a store keeps the job, below its root."""
        return manifest.run_folder(self.project, self.job)


def run_of(files: JobFiles) -> Optional[Run]:
    """The job in that directory; None when nobody asked for its checkpoints to be carried."""
    spec = jobdir.read_document(files.spec) or {}
    wanted = spec.get("checkpoints")
    if not wanted:
        return None
    workdir = str(spec["workdir"])
    code = str(spec.get("code") or workdir)
    return Run(
        job=files.id,
        name=str(spec.get("name")),
        attempt=int(spec.get("attempt", 1)),
        runtime=str(spec.get("runtime", "")),
        workdir=workdir,
        # A script may write beside its frozen code.
        roots=[workdir] if code == workdir else [workdir, code],
        dirs=[str(one) for one in wanted["dirs"]],
        keep=max(int(wanted.get("keep", DEFAULT_KEEP)), 2),
        stores=[str(one) for one in wanted["stores"]],
        accept=str(wanted.get("accept", manifest.CONFIRMED)),
        project=str(wanted.get("project") or os.path.basename(workdir)),
        drive_dir=wanted.get("drive_dir"),
        api_url=str(wanted.get("api_url") or ""),
        unattended=bool(wanted.get("unattended")),
        created=os.stat(files.spec).st_mtime,
        timing=dict(wanted.get("timing") or {}),
        spec=spec,
    )
