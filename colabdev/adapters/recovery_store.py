"""What lets jobs go on elsewhere: `order.json`, `recovery.json`, `safe.json` and `code.zip` in
`<state>/jobs/<id>/`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from colabdev.adapters.files import (
    make_private_directory,
    not_writable,
    sync_directory,
    write_atomic,
)
from colabdev.adapters.locks import held
from colabdev.adapters.store import STATE_VARIABLE
from colabdev.agent import archive
from colabdev.core.recovery_records import (
    format_continuation,
    format_order,
    format_safe,
    parse_continuation,
    parse_order,
    parse_safe,
)
from colabdev.errors import StateNotWritable, StateUnreadable
from colabdev.models.orders import JobOrder
from colabdev.models.recovery import Continuation, Resumed

_CHUNK_BYTES = 1024 * 1024

T = TypeVar("T")


class FileRecoveryStore:
    """`ports.recovery.RecoveryStore` on the local file system."""

    def __init__(self, state_dir: Path) -> None:
        self._jobs = state_dir / "jobs"

    def order(self, job_id: str) -> JobOrder | None:
        return self._read(self._order(job_id), parse_order)

    def save_order(self, job_id: str, order: JobOrder) -> None:
        self._write(self._order(job_id), format_order(order))

    def has_order(self, job_id: str) -> bool:
        return os.path.lexists(self._order(job_id))

    def continuation(self, job_id: str) -> Continuation:
        return self._read(self._continuation(job_id), parse_continuation) or Continuation()

    def save_continuation(self, job_id: str, continuation: Continuation) -> None:
        self._write(self._continuation(job_id), format_continuation(continuation))

    def safe(self, job_id: str) -> Resumed | None:
        return self._read(self._safe(job_id), parse_safe)

    def note_safe(self, job_id: str, newest: Resumed) -> None:
        known = self.safe(job_id)
        if known is None or newest.rank > known.rank:
            self._write(self._safe(job_id), format_safe(newest))

    def code_tree(self, job_id: str) -> str | None:
        try:
            with self._code(job_id).open("rb") as file:
                return archive.read_summary(file).tree
        except FileNotFoundError:
            return None
        except (OSError, archive.Broken) as exc:
            raise _unreadable(self._code(job_id), exc) from exc

    def receive_code(self, job_id: str, pieces: Iterable[bytes]) -> None:
        path = self._code(job_id)
        staging = path.with_name(f".code.{os.getpid()}")
        try:
            with open(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staging, path)
            sync_directory(path.parent)
        except OSError as exc:
            raise self._not_writable(exc) from exc
        finally:
            staging.unlink(missing_ok=True)

    def read_code(self, job_id: str) -> Iterator[bytes]:
        try:
            with self._code(job_id).open("rb") as file:
                while piece := file.read(_CHUNK_BYTES):
                    yield piece
        except OSError as exc:
            raise _unreadable(self._code(job_id), exc) from exc

    def at_work(self, job_id: str) -> AbstractContextManager[None]:
        return held(self._jobs / job_id / "recovery.lock", self._not_writable)

    def _order(self, job_id: str) -> Path:
        return self._jobs / job_id / "order.json"

    def _continuation(self, job_id: str) -> Path:
        return self._jobs / job_id / "recovery.json"

    def _safe(self, job_id: str) -> Path:
        return self._jobs / job_id / "safe.json"

    def _code(self, job_id: str) -> Path:
        return self._jobs / job_id / "code.zip"

    def _read(self, path: Path, parse: Callable[[str], T]) -> T | None:
        try:
            return parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
            raise _unreadable(path, exc) from exc

    def _write(self, path: Path, text: str) -> None:
        for directory in (self._jobs, path.parent):
            make_private_directory(directory, what="colabdev's state", variable=STATE_VARIABLE)
        try:
            write_atomic(path, text.encode("ascii"))
        except OSError as exc:
            raise self._not_writable(exc) from exc

    def _not_writable(self, exc: OSError) -> StateNotWritable:
        return not_writable(self._jobs, exc, what="colabdev's state", variable=STATE_VARIABLE)


def _unreadable(path: Path, exc: Exception) -> StateUnreadable:
    return StateUnreadable(
        f"cannot read {path}: {exc}",
        hint="move that file away; its job does not go on by itself then",
    )
