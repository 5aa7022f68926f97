"""Drive as one mounted runtime sees it: a folder on its disk, and what carries it to the cloud.

A file that is written there is on the runtime's disk only, and is lost with it, until the carrier
has brought it to the cloud; the extended attributes tell (`user.drive.uncommitted`, `user.drive.id`,
`user.drive.md5`), where the file system has any. The real Drive sets them at once; here a new file is
without for some hundredths of a second, and one that is changed keeps its old ones for as long. Nor
is it known here whether a file is still open: what has not changed for the delay is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.colab_server.drive_cloud import DRIVEFS_CLIENT, Cloud, DriveFile
from tests.support.colab_server.world import World

MY_DRIVE = "MyDrive"
_TICK_S = 0.05
_FLUSH_TIMEOUT_S = 30.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Entry:
    """A file of the view: what it was like when last looked at, and what the cloud knows of it."""

    signature: tuple[int, int, int]
    changed: float
    """When it was first seen like that."""
    file_id: str | None
    """None as long as the cloud has never had it."""
    committed: bool


class DriveView:
    """The folder of one runtime; quiet until `mount`."""

    def __init__(self, world: World, cloud: Cloud, folder: Path) -> None:
        self._world = world
        self._cloud = cloud
        self._folder = folder
        self._top = folder / MY_DRIVE
        self._entries: dict[str, Entry] = {}
        self._folders: dict[str, str] = {}
        """The id of each folder."""
        self._local_ids = 0
        self._task: asyncio.Task[None] | None = None
        self._ticking = asyncio.Lock()
        self._ended = False

    @property
    def pending(self) -> list[str]:
        """What is not in the cloud yet."""
        return sorted(path for path, entry in list(self._entries.items()) if not entry.committed)

    async def mount(self) -> None:
        """Fill the folder from the cloud and carry from now on. Harmless twice."""
        if self._task is None:
            self._top.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError):
                # By this name the kernel's code finds out whether Drive is mounted.
                (self._folder / "My Drive").symlink_to(MY_DRIVE)
            await self._tick(at_once=False)
            self._ended = False
            self._task = asyncio.create_task(self._carry())

    async def flush(self) -> bool:
        """Bring everything to the cloud now; False when that did not work in time."""
        deadline = asyncio.get_running_loop().time() + _FLUSH_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            await self._tick(at_once=True)
            if not self.pending:
                return True
            if self._world.faults.take("drive_stalled"):
                return False
            await asyncio.sleep(_TICK_S)
        return False

    async def stop(self) -> None:
        """Carry no more. What has not arrived is lost with the folder."""
        if self._task is not None:
            self._ended = True
            await self._task
            self._task = None

    async def _carry(self) -> None:
        while not self._ended:
            try:
                await self._tick(at_once=False)
            except OSError:
                # Somebody in the machine is faster than we look; the next tick sees it anew.
                _log.debug("the tree changed while it was carried", exc_info=True)
            await asyncio.sleep(_TICK_S)

    async def _tick(self, *, at_once: bool) -> None:
        # In a thread: gigabytes are copied and hashed, and the server has others to serve.
        async with self._ticking:
            await asyncio.to_thread(self._work, at_once)

    def _work(self, at_once: bool) -> None:
        here = dict(self._scan())
        for path in [path for path in self._entries if path not in here]:
            self._forget(path)
        for path, signature in here.items():
            self._notice(path, signature)
        for path, entry in self._entries.items():
            if not entry.committed and (at_once or self._is_due(entry)):
                self._push(path, entry)
        self._pull()

    def _scan(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
        for parent, folders, names in os.walk(self._top):
            for name in folders:
                self._folder_id(os.path.relpath(os.path.join(parent, name), self._top))
            for name in names:
                path = os.path.join(parent, name)
                with contextlib.suppress(FileNotFoundError):
                    seen = os.lstat(path)
                    signature = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
                    yield os.path.relpath(path, self._top), signature

    def _notice(self, path: str, signature: tuple[int, int, int]) -> None:
        entry = self._entries.get(path)
        if entry is not None and entry.signature == signature:
            return
        now = self._world.clock.now()
        file_id = None if entry is None else entry.file_id
        self._entries[path] = Entry(signature, now, file_id, committed=False)
        self._local_ids += file_id is None
        marks = {"uncommitted": "1", "id": file_id or f"local-{self._local_ids}"}
        _mark(self._top / path, marks)

    def _is_due(self, entry: Entry) -> bool:
        waited_s = self._world.clock.now() - entry.changed
        return waited_s >= self._world.facts.drive_upload_delay_s

    def _push(self, path: str, entry: Entry) -> None:
        faults = self._world.faults
        if faults.take("drive_stalled"):
            return
        local = self._top / path
        if faults.take("drive_lies"):
            md5 = ""
            entry.file_id = self._cloud.generate_id()
        else:
            file = self._upload(path, entry, local)
            entry.file_id, md5 = file.id, file.md5
            if faults.take("drive_corrupts"):
                self._cloud.corrupt(file)
        entry.committed = True
        self._world.journal.count("drive uploaded")
        _mark(local, {"id": entry.file_id, "md5": md5, "uncommitted": "0"})

    def _upload(self, path: str, entry: Entry, local: Path) -> DriveFile:
        known = self._cloud.files.get(entry.file_id or "")
        if known is not None:
            self._cloud.replace(known, local)
            return known
        parent = self._folder_id(os.path.dirname(path))
        return self._cloud.add(os.path.basename(path), parent, DRIVEFS_CLIENT, content=local)

    def _folder_id(self, path: str) -> str:
        """The cloud's folder for this one, made with its parents when it is new."""
        if path in ("", "."):
            return self._cloud.root
        known = self._folders.get(path)
        if known is None or known not in self._cloud.files:
            parent = self._folder_id(os.path.dirname(path))
            name = os.path.basename(path)
            known = self._cloud.add(name, parent, DRIVEFS_CLIENT, content=None).id
            self._folders[path] = known
        return known

    def _forget(self, path: str) -> None:
        """What was deleted on a mount goes to the trash, where it counts as before."""
        entry = self._entries.pop(path)
        file = self._cloud.files.get(entry.file_id or "")
        if file is not None:
            file.trashed = True

    def _pull(self) -> None:
        """Bring what others put into the cloud, and take away what they deleted."""
        theirs = {path: file for path, file in self._cloud.walk(self._cloud.root) if _is_sane(path)}
        for path, file in theirs.items():
            if file.is_folder:
                (self._top / path).mkdir(exist_ok=True)
                self._folders[path] = file.id
            elif path not in self._entries and not (self._top / path).exists():
                self._bring(path, file)
        for path, entry in list(self._entries.items()):
            if entry.committed and self._is_gone(entry):
                (self._top / path).unlink(missing_ok=True)
                del self._entries[path]

    def _is_gone(self, entry: Entry) -> bool:
        """Whether the cloud had it and has it no more. What was never there is only promised."""
        if entry.file_id is None or entry.file_id in self._cloud.promised:
            return False
        file = self._cloud.files.get(entry.file_id)
        return file is None or file.trashed

    def _bring(self, path: str, file: DriveFile) -> None:
        local = self._top / path
        shutil.copyfile(self._cloud.blob(file.id), local)
        _mark(local, {"id": file.id, "md5": file.md5, "uncommitted": "0"})
        seen = local.stat()
        signature = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
        self._entries[path] = Entry(signature, self._world.clock.now(), file.id, committed=True)


def _is_sane(path: str) -> bool:
    """Drive allows names that a file system does not; those are not shown."""
    return all(part not in ("", ".", "..") for part in path.split("/"))


def _mark(path: Path, marks: dict[str, str]) -> None:
    # No attributes on this file system, or no such file any more.
    with contextlib.suppress(OSError):
        for name, value in marks.items():
            os.setxattr(path, f"user.drive.{name}", value.encode("ascii"))
