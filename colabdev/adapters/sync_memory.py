"""What is remembered of each runtime's side of one project; a file for each runtime, only caches.

Its first line is a JSON list: the schema, the hash of the rest, and the fields of `KnownSide`. The rest
are the paths of what both sides had and then their fingerprints, with NUL between them: a large project
is read and written in a moment, which JSON would not be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, replace
from pathlib import Path

from colabdev.adapters.files import write_cache
from colabdev.models import KnownSide

_SCHEMA = 3


class FileSyncMemory:
    """`ports.SyncMemory` in files that begin with `prefix`."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix

    def load(self, runtime: str) -> KnownSide | None:
        """Reads the first line only: that is all a sync needs that has nothing to do."""
        try:
            with self._file(runtime).open("rb") as file:
                _, side = _parse_head(file.readline())
        except (OSError, ValueError, TypeError):
            return None
        return side

    def ancestor(self, runtime: str, side: KnownSide) -> Mapping[str, str] | None:
        try:
            head, _, rest = self._file(runtime).read_bytes().partition(b"\n")
            check, known = _parse_head(head)
        except (OSError, ValueError, TypeError):
            return None
        if known != side or hashlib.sha256(rest).hexdigest() != check:
            return None
        words = rest.decode("utf-8", "surrogatepass").split("\0") if rest else []
        count = len(words) // 2
        return dict(zip(words[:count], words[count:], strict=True))

    def save(self, runtime: str, known: KnownSide, ancestor: Mapping[str, str]) -> None:
        rest = "\0".join([*ancestor, *ancestor.values()]).encode("utf-8", "surrogatepass")
        head = json.dumps([_SCHEMA, hashlib.sha256(rest).hexdigest(), *astuple(known)])
        write_cache(self._file(runtime), b"".join([head.encode("ascii"), b"\n", rest]))

    def _file(self, runtime: str) -> Path:
        return self._prefix.with_name(f"{self._prefix.name}.{runtime}.known")


def _parse_head(line: bytes) -> tuple[str, KnownSide]:
    """The hash of the rest, and what is known; ValueError or TypeError when it is no such line."""
    schema, check, *known = json.loads(line.decode("ascii"))
    if schema != _SCHEMA:
        raise ValueError("another format")
    side = KnownSide(*known)
    return str(check), replace(side, folders=tuple(side.folders))
