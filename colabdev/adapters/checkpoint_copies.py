"""This computer's verified copies of checkpoints, `<state>/checkpoints/<job>/<name>/`, all whole.

One that is coming is `.<name>.part/` beside it, with its manifest; a cut leaves it there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from colabdev.adapters.files import (
    list_directory,
    make_private_directory,
    not_writable,
    place_folder,
    sync_directory,
    write_atomic,
)
from colabdev.adapters.store import STATE_VARIABLE
from colabdev.agent import jobdir, manifest
from colabdev.agent.manifest import MANIFEST, BadManifest, Manifest
from colabdev.core.checkpoints import check_checkpoint_name
from colabdev.core.portability import unportable
from colabdev.core.sizes import format_size
from colabdev.errors import ColabdevError, ProtocolError, StateNotWritable, UsageError
from colabdev.ports import BrokenCopy

ROOM_BYTES = 1_000_000_000
"""So much of the disk stays free, whatever comes."""

_PIECE_BYTES = 1024 * 1024


class FileCheckpointCopies:
    """`ports.CheckpointCopies` on the local file system."""

    def __init__(self, state_dir: Path, *, room_bytes: int = ROOM_BYTES) -> None:
        self._state_dir = state_dir
        self._root = state_dir / "checkpoints"
        self._room_bytes = room_bytes

    def jobs(self) -> list[str]:
        listed = list_directory(self._root, self._state_dir)
        return sorted(name for name in listed if jobdir.is_job_id(name) and self.names(name))

    def names(self, job: str) -> list[str]:
        folder = self._root / job
        listed = list_directory(folder, self._root)
        return sorted(
            name for name in listed if (folder / name / MANIFEST).exists() and name[0] != "."
        )

    def load(self, job: str, name: str) -> Manifest | None:
        with suppress(OSError, BadManifest):
            return manifest.read(str(self.path(job, name)))
        return None

    def path(self, job: str, name: str) -> Path:
        return self._root / job / check_checkpoint_name(name)

    @contextmanager
    def coming(self, job: str) -> Iterator[None]:
        for folder in (self._state_dir, self._root, self._root / job):
            make_private_directory(folder, what="checkpoints", variable=STATE_VARIABLE)
        with FileLock(self._root / job / ".lock"):
            yield

    def arrived(self, job: str, name: str) -> float:
        try:
            return self.path(job, name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def begin(self, job: str, name: str, content: bytes) -> ComingCopy:
        told = _usable(content)
        part = self._root / job / f".{check_checkpoint_name(name)}.part"
        with self._writing():
            if _read_or_none(part / MANIFEST) != content:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(mode=0o700)
                write_atomic(part / MANIFEST, content)
            here = sum(_size(part / entry.path) for entry in told.files)
            self._check_room(told.size_bytes - here)
        return ComingCopy(part, self.path(job, name), told)

    def read(self, job: str, name: str, path: str, offset: int) -> Iterator[bytes]:
        with _reading(self.path(job, name)), (self.path(job, name) / path).open("rb") as file:
            file.seek(offset)
            while piece := file.read(_PIECE_BYTES):
                yield piece

    def manifest(self, job: str, name: str) -> bytes:
        with _reading(self.path(job, name)):
            return (self.path(job, name) / MANIFEST).read_bytes()

    def damage(self, job: str, name: str) -> str | None:
        path = self.path(job, name)
        try:
            return manifest.damage(str(path), manifest.read(str(path)))
        except (OSError, BadManifest) as exc:
            return f"its {MANIFEST} cannot be read: {exc}"

    def export(self, job: str, name: str, target: Path) -> None:
        try:
            if target.is_symlink() or (target.exists() and any(target.iterdir())):
                raise UsageError(
                    f"cannot put a checkpoint in {target}: something is there already",
                    hint=f"name a new folder: --to {target}-2",
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            # Made whole under another name first: half a checkpoint is worse than none.
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".colabdev-") as made:
                staging = Path(made) / "copy"
                shutil.copytree(self.path(job, name), staging)
                place_folder(staging, target)
        except OSError as exc:
            raise ColabdevError(
                f"cannot put the checkpoint in {target}: {exc.strerror or exc}",
                hint="make room or give write access there, or choose another folder",
            ) from exc

    def delete(self, job: str, name: str) -> None:
        path = self.path(job, name)
        # The manifest first: without it there is none, however far this comes.
        with suppress(FileNotFoundError):
            (path / MANIFEST).unlink()
        shutil.rmtree(path, ignore_errors=True)

    def _check_room(self, size_bytes: int) -> None:
        free = shutil.disk_usage(self._root).free
        if size_bytes + self._room_bytes > free:
            raise StateNotWritable(
                f"no room for a checkpoint of {format_size(size_bytes)} in {self._root}: "
                f"{format_size(free)} are free, of which {format_size(self._room_bytes)} stay so",
                hint=f"make room there, or set {STATE_VARIABLE} to another directory",
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise not_writable(
                self._root, exc, what="checkpoints", variable=STATE_VARIABLE
            ) from exc


class ComingCopy:
    """`ports.ComingCheckpoint` in a folder beside its place."""

    def __init__(self, part: Path, target: Path, told: Manifest) -> None:
        self._part = part
        self._target = target
        self._manifest = told

    def size_of(self, path: str) -> int:
        return _size(self._part / path)

    def append(self, path: str, offset: int, data: bytes) -> None:
        file = self._part / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab") as opened:
                if opened.tell() != offset:
                    raise ProtocolError(
                        f"the runtime sent byte {offset} of {path}, of which {opened.tell()} are here",
                        hint="type the command again",
                    )
                opened.write(data)
        except OSError as exc:
            raise not_writable(
                self._part, exc, what="checkpoints", variable=STATE_VARIABLE
            ) from exc

    def place(self) -> Path:
        problem = manifest.damage(str(self._part), self._manifest)
        if problem is not None:
            shutil.rmtree(self._part, ignore_errors=True)
            raise BrokenCopy(problem)
        try:
            for entry in self._manifest.files:
                _flush(self._part / entry.path)
            sync_directory(self._part)
            shutil.rmtree(self._target, ignore_errors=True)
            os.rename(self._part, self._target)
            sync_directory(self._target.parent)
        except OSError as exc:
            raise not_writable(
                self._target, exc, what="checkpoints", variable=STATE_VARIABLE
            ) from exc
        return self._target


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ColabdevError(
            f"cannot read the copy {path}: {exc.strerror or exc}",
            hint="colabdev checkpoints verify looks at all of them",
        ) from exc


def _usable(content: bytes) -> Manifest:
    try:
        told = manifest.parse(content)
        for path, reason in unportable([entry.path for entry in told.files], ()).items():
            raise BadManifest(f"{path!r} {reason}")
    except BadManifest as exc:
        raise ProtocolError(
            f"the runtime's manifest of a checkpoint cannot be used: {exc}",
            hint="colabdev checkpoints verify says more",
        ) from exc
    return told


def _read_or_none(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _flush(path: Path) -> None:
    # Windows flushes only what is open for writing.
    with path.open("r+b") as file:
        os.fsync(file.fileno())
