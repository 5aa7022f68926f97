"""What survives every machine: the files in the cloud, and what Drive's API would say of them.

One folder, shared by the processes that upload and the tests that look: `objects/<id>` has a content,
`journal` a line for each change, of which the last one about an id counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CloudFile:
    """A file, with the checksums of what is really there."""

    id: str
    path: str
    """As it is shown; two files may have the same."""
    size: int
    md5: str
    sha256: str
    arrived: float
    """Seconds since the epoch."""
    gone: bool = False


class Cloud:
    """The files of one account."""

    def __init__(self, folder: Path) -> None:
        self._objects = folder / "objects"
        self._journal = folder / "journal"
        self._objects.mkdir(parents=True, exist_ok=True)
        self._journal.touch()

    def put(self, path: str, content: Path, *, flip: bool = False) -> CloudFile:
        """A new file with that content, or one bit of it another."""
        file_id = "1" + secrets.token_hex(16)
        blob = self._objects / file_id
        shutil.copyfile(content, blob)
        if flip and blob.stat().st_size:
            with blob.open("r+b") as file:
                file.seek(blob.stat().st_size // 2)
                (byte,) = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte ^ 1]))
        md5, sha256 = checksums(blob)
        arrived = CloudFile(file_id, path, blob.stat().st_size, md5, sha256, time.time())
        self._write(arrived)
        return arrived

    def rename(self, file: CloudFile, path: str) -> CloudFile:
        renamed = replace(file, path=path)
        self._write(renamed)
        return renamed

    def delete(self, file: CloudFile) -> None:
        self._write(replace(file, gone=True))

    def files(self) -> list[CloudFile]:
        """What is there, in the order in which it arrived."""
        known: dict[str, CloudFile] = {}
        for line in self._journal.read_text().splitlines():
            try:
                file = CloudFile(**json.loads(line))
            except ValueError:
                continue  # Whoever wrote it was killed in the middle of it.
            known[file.id] = file
        return [file for file in known.values() if not file.gone]

    def named(self, path: str) -> list[CloudFile]:
        """All files of that name, newest first."""
        return [file for file in reversed(self.files()) if file.path == path]

    def content(self, file: CloudFile) -> Path:
        return self._objects / file.id

    def names(self) -> Mapping[str, CloudFile]:
        """The files by the names under which a mount shows them: twins get a number."""
        shown: dict[str, CloudFile] = {}
        for file in self.files():
            path, number = file.path, 0
            stem, dot, suffix = file.path.rpartition(".")
            while path in shown:
                number += 1
                path = f"{stem} ({number}){dot}{suffix}" if dot else f"{file.path} ({number})"
            shown[path] = file
        return shown

    def _write(self, file: CloudFile) -> None:
        line = json.dumps(asdict(file)).encode("ascii") + b"\n"
        with self._journal.open("ab", buffering=0) as journal:
            journal.write(line)


def checksums(path: Path) -> tuple[str, str]:
    """md5 and sha256 of a file."""
    found = []
    for name in ("md5", "sha256"):
        with path.open("rb") as file:
            found.append(hashlib.file_digest(file, name).hexdigest())
    return found[0], found[1]
