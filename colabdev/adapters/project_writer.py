"""Writing into a project on this computer, by the same laws as on the runtime."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock

from colabdev.agent import changes, placing, tree
from colabdev.agent.changes import Change
from colabdev.agent.placing import Failure, Placer
from colabdev.crash_points import crash_point
from colabdev.errors import ColabdevError
from colabdev.ports import Steps

_LOCK_TIMEOUT_S = 30.0


class ProjectWriter:
    """Puts changes into the project at `root`, by way of `.colabdev/staging` in it, which git does not
    see. `index` has the hashes of files that need not be read again."""

    def __init__(self, root: Path, index: tree.Index, lock_file: Path) -> None:
        self._root = root
        self._ours = root / tree.OURS
        self._staging = self._ours / "staging"
        self._lock_file = lock_file
        self._placer = Placer(str(root), str(self._staging), index, keeps_parts=True)

    def look(self, path: str) -> str:
        """The fingerprint of what stands at `path`."""
        return self._placer.current(path)

    def staged_bytes(self, digest: str) -> int:
        """How much of that content a sync that was cut left here."""
        try:
            return os.lstat(self._staging / digest).st_size
        except OSError:
            return 0

    def write(self, steps: Steps) -> Sequence[Failure]:
        """See `ports.LocalTree.write`."""
        try:
            with self._locked():
                self._prepare()
                failures = placing.attempt(
                    steps.changes(), lambda change: self._make(change, steps)
                )
                self._tidy()
                return failures
        except OSError as exc:
            raise ColabdevError(
                f"cannot write into {self._root}: {exc.strerror or exc}; what came until then stays",
                hint="make room or give write access there, then sync again",
            ) from exc

    def tidy(self) -> None:
        """See `ports.LocalTree.tidy`."""
        if self._ours.is_dir():
            # Where that is impossible, or another sync is at it, it stays until the next time.
            with contextlib.suppress(OSError, ColabdevError), self._locked(0):
                self._tidy(but_parts=True)

    def _make(self, change: Change, steps: Steps) -> None:
        if change.op == changes.FORGET:
            raise placing.Refused(
                placing.PROBLEM, "changed while it was fetched; the next sync brings it"
            )
        if self._placer.check(change) != change.fingerprint:
            crash_point("sync.writing")
            self._placer.do(change, steps.content())

    @contextlib.contextmanager
    def _locked(self, timeout_s: float = _LOCK_TIMEOUT_S) -> Iterator[None]:
        self._lock_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = filelock.FileLock(self._lock_file, timeout=timeout_s)
        try:
            with lock:
                yield
        except filelock.Timeout as exc:
            raise ColabdevError(
                f"cannot write into {self._root}: another sync of it has been running for long",
                hint="wait for it, then sync again",
            ) from exc

    def _prepare(self) -> None:
        self._staging.mkdir(parents=True, exist_ok=True)
        (self._ours / ".gitignore").write_text("*\n", encoding="ascii")
        placing.clear(str(self._staging), but_parts=True)

    def _tidy(self, *, but_parts: bool = False) -> None:
        """Leave nothing, for what was to come came; with `but_parts` what the next sync goes on with."""
        placing.clear(str(self._staging), but_parts=but_parts)
        with contextlib.suppress(OSError):
            if but_parts:
                self._staging.rmdir()  # Only an empty folder goes.
        with contextlib.suppress(OSError):
            if os.listdir(self._ours) == [".gitignore"]:
                (self._ours / ".gitignore").unlink()
                self._ours.rmdir()
