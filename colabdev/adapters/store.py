"""The state files: `<state>/runtimes/<name>.json`, with their locks in `<state>/locks`."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from colabdev.adapters.files import (
    list_directory,
    make_private_directory,
    not_writable,
    write_atomic,
)
from colabdev.adapters.locks import file_lock
from colabdev.core.names import is_runtime_name
from colabdev.core.records import RecordUnreadable, format_record, parse_record, salvage
from colabdev.crash_points import crash_point
from colabdev.errors import ColabdevError, StateNotWritable, StateUnreadable
from colabdev.models import RuntimeRecord

if TYPE_CHECKING:
    from filelock import FileLock

STATE_VARIABLE = "COLABDEV_STATE_DIR"

_WRITE_LOCK_TIMEOUT_S = 30.0
_STAGING_S = 60.0
"""No write takes as long."""
_OPERATION_LOCK_TIMEOUT_S = 300.0


class FileStore:
    """`ports.RuntimeStore` on the local file system.

    Two locks each: `write` is held for one read-change-write; `operation` while a command changes
    what the runtime is, which may take minutes, so that others can go on reading and the keeper can
    go on writing where it listens.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._records = state_dir / "runtimes"
        self._locks = state_dir / "locks"

    def names(self) -> list[str]:
        try:
            files = list_directory(self._records, self.state_dir)
        except OSError as exc:
            raise StateUnreadable(
                f"cannot list {self._records}: {exc.strerror}",
                hint=f"give read access there, or set {STATE_VARIABLE} to another directory",
            ) from exc
        names = (file.removesuffix(".json") for file in files if file.endswith(".json"))
        return sorted(name for name in names if is_runtime_name(name))

    def load(self, name: str) -> RuntimeRecord | None:
        text = self._read(name)
        if text is None:
            return None
        try:
            record = parse_record(text)
        except RecordUnreadable as exc:
            raise self._unreadable(name, str(exc), text) from exc
        if record.name != name:
            raise self._unreadable(name, f"it is about {record.name!r}", text)
        return record

    def save(self, record: RuntimeRecord) -> None:
        with self._lock(record.name, "write", _WRITE_LOCK_TIMEOUT_S):
            self._write(record)

    def update(
        self, name: str, change: Callable[[RuntimeRecord], RuntimeRecord]
    ) -> RuntimeRecord | None:
        with self._lock(name, "write", _WRITE_LOCK_TIMEOUT_S):
            record = self.load(name)
            if record is None:
                return None
            changed = change(record)
            if changed != record:
                self._write(changed)
            return changed

    def delete(self, name: str) -> None:
        with self._lock(name, "write", _WRITE_LOCK_TIMEOUT_S):
            try:
                self._path(name).unlink(missing_ok=True)
            except OSError as exc:
                raise self._not_writable(exc) from exc

    def salvage(self, name: str) -> Mapping[str, str]:
        try:
            return salvage(self._path(name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return {}

    def replace_unreadable(self, name: str, record: RuntimeRecord | None) -> str:
        path = self._path(name)
        with self._lock(name, "write", _WRITE_LOCK_TIMEOUT_S):
            try:
                aside = next(
                    candidate
                    for number in range(1, 10_000)
                    if not os.path.lexists(candidate := path.with_suffix(f".unreadable-{number}"))
                )
                if path.is_dir() or path.is_symlink():
                    path.rename(aside)
                else:
                    # Copied, not renamed: at no moment may the name be without a state file, or a
                    # crash here would forget a runtime that runs.
                    shutil.copy2(path, aside)
                crash_point("repair.copied")
                if record is not None:
                    write_atomic(path, format_record(record).encode("utf-8"))
                else:
                    path.unlink(missing_ok=True)
            except OSError as exc:
                raise self._not_writable(exc) from exc
            return str(aside)

    def leftovers(self) -> list[Path]:
        staged = self._records.glob(".*.json.*") if self._records.is_dir() else ()
        now = time.time()
        return sorted(path for path in staged if now - path.stat().st_mtime > _STAGING_S)

    @contextmanager
    def operation(self, name: str) -> Iterator[None]:
        with self._lock(name, "operation", _OPERATION_LOCK_TIMEOUT_S):
            yield

    def computer_id(self) -> str:
        """What tells this computer from others, made at first use."""
        path = self.state_dir / "computer"
        try:
            known = path.read_text(encoding="ascii").strip() if path.exists() else ""
            if known:
                return known
            with self._lock("computer", "write", _WRITE_LOCK_TIMEOUT_S):
                if not path.exists():
                    write_atomic(path, f"{uuid.uuid4()}\n".encode("ascii"))
                return path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise StateUnreadable(
                f"cannot read {path}, which names this computer: {exc}",
                hint=f"give read and write access there, or set {STATE_VARIABLE}",
            ) from exc

    def keeper_lock(self, name: str) -> FileLock:
        """The lock a keeper holds for its whole life; free means that no keeper runs."""
        self._make_directories()
        return file_lock(self._locks / f"{name}.keeper.lock")

    def write_keeper_pid(self, name: str) -> None:
        """Say who holds the keeper's lock; called by the holder."""
        (self._locks / f"{name}.keeper.pid").write_text(str(os.getpid()))

    def keeper_pid(self, name: str) -> int | None:
        """The process that holds the keeper's lock; None when it is free."""
        lock = self.keeper_lock(name)
        try:
            lock.acquire(timeout=0)
        except TimeoutError:
            pass
        else:
            lock.release()
            return None
        try:
            return int((self._locks / f"{name}.keeper.pid").read_text())
        except (OSError, ValueError):
            return None

    @contextmanager
    def _lock(self, name: str, purpose: str, timeout_s: float) -> Iterator[None]:
        self._make_directories()
        lock = file_lock(self._locks / f"{name}.{purpose}.lock", timeout_s)
        try:
            lock.acquire()
        except TimeoutError as exc:
            raise ColabdevError(
                f"cannot work on {name!r}: another colabdev command has held it for {timeout_s:.0f} s",
                hint="wait for that command or end it, then try again",
            ) from exc
        except OSError as exc:
            raise self._not_writable(exc) from exc
        try:
            yield
        finally:
            lock.release()

    def _read(self, name: str) -> str | None:
        path = self._path(name)
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError as exc:
            if path.is_symlink():
                raise self._unreadable(name, "its link leads nowhere", "") from exc
            return None
        except NotADirectoryError as exc:
            raise self._not_writable(exc) from exc
        except OSError as exc:
            raise self._unreadable(name, exc.strerror or str(exc), "") from exc
        except UnicodeDecodeError as exc:
            raise self._unreadable(name, "it is not text", "") from exc

    def _write(self, record: RuntimeRecord) -> None:
        try:
            write_atomic(self._path(record.name), format_record(record).encode("utf-8"))
            # What a writer left that was killed; we hold the lock, so nobody is writing now.
            for leftover in self._records.glob(f".{record.name}.json.*"):
                leftover.unlink()
        except OSError as exc:
            raise self._not_writable(exc) from exc

    def _make_directories(self) -> None:
        for directory in (self.state_dir, self._records, self._locks):
            make_private_directory(directory, what="colabdev's state", variable=STATE_VARIABLE)

    def _path(self, name: str) -> Path:
        return self._records / f"{name}.json"

    def _not_writable(self, exc: OSError) -> StateNotWritable:
        return not_writable(self.state_dir, exc, what="colabdev's state", variable=STATE_VARIABLE)

    def _unreadable(self, name: str, cause: str, text: str) -> StateUnreadable:
        known = ", ".join(f"{key} {value}" for key, value in salvage(text).items())
        return StateUnreadable(
            f"cannot read the state of {name!r} in {self._path(name)}: {cause}"
            + (f"; still readable: {known}" if known else ""),
            hint=f"colabdev doctor --repair {name}",
        )
