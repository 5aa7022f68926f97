"""Writing into a project on this computer, by the same laws as on the runtime."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from colabdev.adapters.locks import file_lock
from colabdev.agent import changes, placing, tree
from colabdev.agent.changes import Change
from colabdev.agent.placing import Failure, Placer
from colabdev.agent.stamps import Index
from colabdev.crash_points import crash_point
from colabdev.errors import ColabdevError
from colabdev.ports import Steps

_LOCK_TIMEOUT_S = 30.0


class ProjectWriter:
    """Puts changes into the project at `root`, by way of `.colabdev/staging` in it, which git does not
    see. `index` has the hashes of files that need not be read again."""

    def __init__(self, root: Path, index: Index, lock_file: Path) -> None:
        self._root = root
        self._ours = root / tree.OURS
        self._staging = self._ours / "staging"
        self._lock_file = lock_file
        self._placer = Placer(str(root), str(self._staging), index)

    def look(self, path: str) -> str:
        """The fingerprint of what stands at `path`."""
        return self._placer.current(path)

    def staged(self) -> Mapping[str, int]:
        """See `ports.LocalTree.staged`."""
        return placing.staged_parts(str(self._staging))

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
        if change.op in changes.FOLDER_OPS:
            self._placer.settle_folder(change)
        elif self._placer.check(change) != change.fingerprint:
            crash_point("sync.writing")
            self._placer.do(change, steps.content())

    @contextlib.contextmanager
    def _locked(self, timeout_s: float = _LOCK_TIMEOUT_S) -> Iterator[None]:
        self._lock_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = file_lock(self._lock_file, timeout_s)
        try:
            lock.acquire()
        except TimeoutError as exc:
            raise ColabdevError(
                f"cannot write into {self._root}: another sync of it has been running for long",
                hint="wait for it, then sync again",
            ) from exc
        try:
            yield
        finally:
            lock.release()

    def _prepare(self) -> None:
        placing.clear(str(self._staging), self.staged())
        self._staging.mkdir(parents=True, exist_ok=True)
        (self._ours / ".gitignore").write_text("*\n", encoding="ascii")

    def _tidy(self, *, but_parts: bool = False) -> None:
        """Leave nothing, for what was to come came; with `but_parts` what the next sync goes on with."""
        placing.clear(str(self._staging), self.staged() if but_parts else ())
        with contextlib.suppress(OSError):
            if os.listdir(self._ours) == [".gitignore"]:
                (self._ours / ".gitignore").unlink()
                self._ours.rmdir()
