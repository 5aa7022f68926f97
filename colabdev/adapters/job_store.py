"""This computer's copies of jobs: `<state>/jobs/<id>/{job.json,log,lock}`, and at its end the records
of its runtime beside them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from colabdev.adapters.files import (
    list_directory,
    make_private_directory,
    not_writable,
    write_atomic,
)
from colabdev.adapters.locks import file_lock, held
from colabdev.adapters.store import STATE_VARIABLE
from colabdev.agent import cursors, jobdir
from colabdev.agent.jobdir import EVENTS, RECORDS
from colabdev.core.job_records import format_job, parse_job
from colabdev.errors import StateNotWritable, StateUnreadable
from colabdev.models import Begin, JobRecord

_CHUNK_BYTES = 1024 * 1024
TOLD = "told"
"""What was said last of a job's machines; the key of it, as text."""


class FileJobStore:
    """`ports.JobStore` on the local file system."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._jobs = state_dir / "jobs"

    def ids(self) -> list[str]:
        try:
            names = list_directory(self._jobs, self._state_dir)
        except OSError as exc:
            raise StateUnreadable(
                f"cannot list {self._jobs}: {exc.strerror}",
                hint=f"give read access there, or set {STATE_VARIABLE} to another directory",
            ) from exc
        return sorted(
            name
            for name in names
            if jobdir.is_job_id(name) and os.path.lexists(self._jobs / name / "job.json")
        )

    def version(self) -> int:
        try:
            return self._jobs.stat().st_mtime_ns
        except OSError:
            return 0

    def load(self, job_id: str) -> JobRecord | None:
        path = self._jobs / job_id / "job.json"
        try:
            job = parse_job(path.read_text(encoding="utf-8"))
            if job.id != job_id:
                raise ValueError(f"it is about {job.id!r}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as exc:
            raise StateUnreadable(
                f"cannot read what is known of the job {job_id!r} in {path}: {exc}",
                hint="move that file away; colabdev ps asks the runtime anew",
            ) from exc
        return job

    def create(self, job: JobRecord) -> bool:
        for directory in (self._state_dir, self._jobs):
            make_private_directory(directory, what="colabdev's state", variable=STATE_VARIABLE)
        try:
            (self._jobs / job.id).mkdir(mode=0o700)
        except FileExistsError:
            if (self._jobs / job.id / "job.json").exists():
                return False
        except OSError as exc:
            raise self._not_writable(exc) from exc
        self.save(job)
        # Whoever looked since its directory was made has seen nothing in it.
        self._note_change()
        return True

    def save(self, job: JobRecord) -> None:
        try:
            write_atomic(self._jobs / job.id / "job.json", format_job(job).encode("ascii"))
        except OSError as exc:
            raise self._not_writable(exc) from exc

    def update(self, job_id: str, change: Callable[[JobRecord], JobRecord]) -> JobRecord | None:
        with self._locked(job_id):
            known = self.load(job_id)
            if known is None:
                return None
            changed = change(known)
            if changed != known:
                self.save(changed)
            if changed.attempt != known.attempt:
                self._note_change()
            return changed

    def delete(self, job_id: str) -> None:
        shutil.rmtree(self._jobs / job_id, ignore_errors=True)

    def append(self, job_id: str, attempt: int, offset: int, data: bytes) -> None:
        path = self._log(job_id, attempt)
        try:
            with (
                file_lock(path.with_name("lock")),
                open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "wb") as log,
            ):
                size = os.fstat(log.fileno()).st_size
                if offset <= size < offset + len(data):
                    log.write(data[size - offset :])
        except OSError as exc:
            raise self._not_writable(exc) from exc

    def log_size(self, job_id: str, attempt: int) -> int:
        try:
            return self._log(job_id, attempt).stat().st_size
        except FileNotFoundError:
            return 0

    def read_log(self, job_id: str, attempt: int, offset: int) -> bytes:
        try:
            with self._log(job_id, attempt).open("rb") as log:
                log.seek(offset)
                return log.read(_CHUNK_BYTES)
        except FileNotFoundError:
            return b""
        except OSError as exc:
            raise StateUnreadable(
                f"cannot read the log of {job_id!r}: {exc}", hint="give read access there"
            ) from exc

    def begin_of(self, job_id: str, attempt: int, begin: Begin) -> int:
        begins = [0]
        if begin.tail is not None:
            with suppress(FileNotFoundError), self._log(job_id, attempt).open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                begins.append(cursors.offset_of_last_lines(log, size, begin.tail))
        if begin.since_s is not None:
            with suppress(FileNotFoundError), (self._jobs / job_id / EVENTS).open("rb") as events:
                begins.append(cursors.offset_since(events, time.time() - begin.since_s))
        return max(begins)

    def save_records(self, job_id: str, texts: Mapping[str, str]) -> None:
        try:
            for name in RECORDS:
                if name in texts:
                    content = texts[name].encode("utf-8", "surrogatepass")
                    write_atomic(self._jobs / job_id / name, content)
        except OSError as exc:
            raise self._not_writable(exc) from exc

    def has_records(self, job_id: str) -> bool:
        return (self._jobs / job_id / RECORDS[-1]).exists()

    def record_lines(self, job_id: str, name: str) -> list[str]:
        try:
            text = (self._jobs / job_id / name).read_text("utf-8", errors="replace")
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise StateUnreadable(
                f"cannot read {name} of {job_id!r}: {exc}", hint="give read access there"
            ) from exc
        return text.splitlines()

    def _note_change(self) -> None:
        """Give `version` another value."""
        with suppress(OSError):  # Whoever waits for it looks by himself, only later.
            now = time.time_ns()
            os.utime(self._jobs, ns=(now, now))

    @contextmanager
    def _locked(self, job_id: str) -> Iterator[None]:
        if not (self._jobs / job_id).is_dir():
            yield  # Forgotten; a lock would bring its directory back.
            return
        with held(self._jobs / job_id / "record.lock", self._not_writable):
            yield

    def told(self, job_id: str) -> str:
        """As `ports.told.ToldStore` has it."""
        try:
            return (self._jobs / job_id / TOLD).read_text("utf-8", errors="replace")
        except OSError:
            return ""  # Told twice is better than not at all.

    def save_told(self, job_id: str, key: str) -> None:
        try:
            write_atomic(self._jobs / job_id / TOLD, key.encode("utf-8", "replace"))
        except OSError as exc:
            raise self._not_writable(exc) from exc

    def heard(self, job_id: str, attempt: int) -> datetime | None:
        try:
            found = self._log(job_id, attempt).stat()
        except OSError:
            return None
        return datetime.fromtimestamp(found.st_mtime, UTC) if found.st_size else None

    def _log(self, job_id: str, attempt: int) -> Path:
        name = "log" if attempt == jobdir.FIRST_ATTEMPT else f"log.{attempt}"
        return self._jobs / job_id / name

    def _not_writable(self, exc: OSError) -> StateNotWritable:
        return not_writable(self._jobs, exc, what="colabdev's state", variable=STATE_VARIABLE)
