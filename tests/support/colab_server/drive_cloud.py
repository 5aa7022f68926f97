"""What is really on Drive: one cloud for each account, which outlives every runtime."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.colab_server.clock import Clock

FOLDER_TYPE = "application/vnd.google-apps.folder"
FILE_TYPE = "application/octet-stream"
DRIVEFS_CLIENT = "drivefs"
"""The OAuth client of Google's own that writes what is written on a mount."""

_CHUNK_BYTES = 2**20


@dataclass(slots=True)
class DriveFile:
    """A file or a folder, which is a file without content. Names are not unique."""

    id: str
    name: str
    parent: str
    client: str
    """The OAuth client that made it; the scope `drive.file` shows its own only."""
    created: float
    modified: float
    mime_type: str = FILE_TYPE
    size: int = 0
    md5: str = ""
    sha1: str = ""
    sha256: str = ""
    version: int = 1
    trashed: bool = False
    app_properties: dict[str, str] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return self.mime_type == FOLDER_TYPE


class Cloud:
    """One account's Drive. Contents are files of this computer, named by the id."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._clock = clock
        self.root = _new_id()
        self.files: dict[str, DriveFile] = {}
        self.promised: set[str] = set()
        """Ids that were generated and are not used yet."""

    def generate_id(self) -> str:
        new = _new_id()
        self.promised.add(new)
        return new

    def blob(self, file_id: str) -> Path:
        return self._directory / file_id

    def resolve(self, file_id: str) -> str:
        return self.root if file_id == "root" else file_id

    def add(
        self,
        name: str,
        parent: str,
        client: str,
        *,
        content: Path | None,
        file_id: str | None = None,
        mime_type: str = FILE_TYPE,
        app_properties: dict[str, str] | None = None,
    ) -> DriveFile:
        """A new file with a copy of `content`, or a folder when there is none."""
        now = self._clock.now()
        new = DriveFile(
            id=file_id or _new_id(),
            name=name,
            parent=self.resolve(parent),
            client=client,
            created=now,
            modified=now,
            mime_type=FOLDER_TYPE if content is None else mime_type,
            app_properties=dict(app_properties or {}),
        )
        if content is not None:
            self._store(new, content)
        self.promised.discard(new.id)
        self.files[new.id] = new
        return new

    def replace(self, file: DriveFile, content: Path) -> None:
        """New content for a file that is there."""
        self._store(file, content)
        file.modified = self._clock.now()
        file.version += 1

    def corrupt(self, file: DriveFile) -> None:
        """Flip a bit, and let Drive believe that it was always so."""
        blob = self.blob(file.id)
        damaged = bytearray(blob.read_bytes())
        if damaged:
            damaged[len(damaged) // 2] ^= 1
            blob.write_bytes(damaged)
            _describe(file, blob)

    def delete(self, file_id: str) -> None:
        """For good, with everything below it."""
        for child in list(self.children(file_id)):
            self.delete(child.id)
        del self.files[file_id]
        self.blob(file_id).unlink(missing_ok=True)

    def children(self, parent: str) -> Iterator[DriveFile]:
        # Of a copy: uploads come from threads.
        return (file for file in list(self.files.values()) if file.parent == parent)

    def walk(self, parent: str, path: str = "") -> Iterator[tuple[str, DriveFile]]:
        """What is not in the trash, with its path below `parent`, folders before their content."""
        for file in list(self.children(parent)):
            if not file.trashed:
                below = f"{path}{file.name}"
                yield below, file
                yield from self.walk(file.id, f"{below}/")

    def used_bytes(self) -> int:
        """The trash counts, too."""
        return sum(file.size for file in list(self.files.values()))

    def _store(self, file: DriveFile, content: Path) -> None:
        blob = self.blob(file.id)
        shutil.copyfile(content, blob)
        _describe(file, blob)


class Clouds:
    """The cloud of each account, made when it is first asked for."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._by_email: dict[str, Cloud] = {}

    def of(self, email: str) -> Cloud:
        if email not in self._by_email:
            name = hashlib.sha256(email.encode()).hexdigest()[:16]
            self._by_email[email] = Cloud(self._directory / name, self._clock)
        return self._by_email[email]

    def clear(self) -> None:
        for cloud in self._by_email.values():
            for file in list(cloud.children(cloud.root)):
                cloud.delete(file.id)


def _describe(file: DriveFile, blob: Path) -> None:
    hashes = [hashlib.new(name) for name in ("md5", "sha1", "sha256")]
    with blob.open("rb") as opened:
        while piece := opened.read(_CHUNK_BYTES):
            for one in hashes:
                one.update(piece)
    file.size = blob.stat().st_size
    file.md5, file.sha1, file.sha256 = (one.hexdigest() for one in hashes)


def _new_id() -> str:
    return "1" + secrets.token_urlsafe(24)
