"""The empty folders of a project, found without looking into each folder every time."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from colabdev.adapters.files import write_cache
from colabdev.agent import tree
from colabdev.agent.listing import look_into
from colabdev.agent.rules import from_document, key_of

_Row = tuple[list[int] | None, list[str], bool]
"""What the folder looked like from outside, None when that may not show an edit; the folders in it that
no rule ignores, and whether it holds nothing at all."""


class EmptyFolders:
    """Those below `root`. What comes or goes in a folder shows in its times, so one whose times are as
    recorded in `cache_file`, by the same rules, is as it was."""

    def __init__(self, root: Path, cache_file: Path) -> None:
        self._root = str(root)
        self._cache_file = cache_file

    def find(self, rules: str) -> tuple[str, ...]:
        """Those that no rule of the document ignores."""
        key = key_of(rules)
        known = self._load(key)
        began_ns = time.time_ns()
        parsed = None
        found: dict[str, _Row] = {}
        pending = [""]
        while pending:
            path = pending.pop()
            try:
                status = os.lstat(f"{self._root}/{path}")
            except OSError:
                continue  # It went while we looked.
            stamp = [status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
            row = known.get(path)
            if row is None or row[0] != stamp:
                parsed = parsed or from_document(rules)
                below, is_empty = look_into(self._root, parsed, path)
                row = (stamp if tree.is_settled(status, began_ns) else None, below, is_empty)
            found[path] = row
            pending += row[1]
        if found != known:
            self._save(key, found)
        return tuple(path[:-1] for path, row in found.items() if row[2] and path)

    def _load(self, key: str) -> dict[str, _Row]:
        try:
            document = json.loads(self._cache_file.read_text(encoding="ascii"))
            rows = document["folders"] if document["rules"] == key else {}
            return {path: (row[0], list(row[1]), bool(row[2])) for path, row in rows.items()}
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            return {}

    def _save(self, key: str, found: dict[str, _Row]) -> None:
        text = json.dumps({"rules": key, "folders": found}, separators=(",", ":"))
        write_cache(self._cache_file, text.encode("ascii"))
