"""What is remembered of each runtime's side of one project; a file for each runtime, only caches."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import astuple, replace
from pathlib import Path

from colabdev.adapters.files import write_atomic
from colabdev.models import KnownSide

log = logging.getLogger(__name__)

_SCHEMA = 2
_ROWS_PER_LINE = 500


class FileSyncMemory:
    """`ports.SyncMemory` in files that begin with `prefix`."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix

    def load(self, runtime: str) -> KnownSide | None:
        """Reads the first line only: that is all a sync needs that has nothing to do."""
        try:
            with self._file(runtime).open(encoding="ascii") as file:
                schema, *known = json.loads(file.readline())
            if schema != _SCHEMA:
                return None
            side = KnownSide(*known)
            return replace(side, folders=tuple(side.folders))
        except (OSError, ValueError, TypeError):
            return None

    def ancestor(self, runtime: str) -> Mapping[str, str] | None:
        try:
            with self._file(runtime).open(encoding="ascii") as file:
                file.readline()
                return {path: mark for line in file for path, mark in json.loads(line).items()}
        except (OSError, ValueError, AttributeError):
            return None

    def save(self, runtime: str, known: KnownSide, ancestor: Mapping[str, str]) -> None:
        try:
            self._prefix.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = "".join(_lines(known, ancestor)).encode("ascii")
            write_atomic(self._file(runtime), content)
        except OSError as exc:
            log.info("cannot remember the last sync with %s: %s", runtime, exc)

    def _file(self, runtime: str) -> Path:
        return self._prefix.with_name(f"{self._prefix.name}.{runtime}.known")


def _lines(known: KnownSide, ancestor: Mapping[str, str]) -> Iterator[str]:
    yield json.dumps([_SCHEMA, *astuple(known)]) + "\n"
    rows = list(ancestor.items())
    for start in range(0, len(rows), _ROWS_PER_LINE):
        yield json.dumps(dict(rows[start : start + _ROWS_PER_LINE])) + "\n"
