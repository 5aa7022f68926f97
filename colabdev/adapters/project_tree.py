"""A project's tree on this computer: scanned with the hashes of last time, and read."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from colabdev.adapters.files import write_atomic
from colabdev.adapters.project_files import Listing, list_project, own_filter
from colabdev.agent import tree
from colabdev.models import Absence, TreeScan

log = logging.getLogger(__name__)

_READ_BYTES = 256 * 1024


class ProjectTree:
    """`ports.LocalTree` on the local file system.

    The hashes are kept in `index_dir`, in a file of its own for each project. It is a cache: when it
    cannot be read or written, everything is hashed.
    """

    def __init__(
        self, root: Path, *, exclude: Sequence[str], max_bytes: int, index_dir: Path
    ) -> None:
        self._root = root
        self._exclude = exclude
        self._max_bytes = max_bytes
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
        self._index_file = index_dir / f"{name}.json"
        self._unknown: set[str] = set()

    def scan(self) -> TreeScan:
        index = self._load_index()
        entries: list[tree.Entry] = []
        problems: list[tree.Problem] = []
        stamps: tree.Index = {}
        rules = own_filter(self._root, self._exclude)
        pending = [""]
        while pending:
            folder = pending.pop()
            listing = self._list(folder)
            paths = rules.kept(listing.paths)
            scan = tree.scan(str(self._root), paths, index, self._max_bytes)
            entries += scan.entries
            problems += [*listing.problems, *scan.problems]
            stamps |= scan.stamps
            # A folder in git's list is a repository of its own, with a list of its own.
            pending += [
                path for path in scan.folders if os.path.lexists(self._root / path / ".git")
            ]
        if stamps != index:
            self._save_index(stamps)
        self._unknown = {path for path, _ in problems}
        return TreeScan(tuple(entries), tuple(sorted(problems)))

    def absences(self, paths: Iterable[str]) -> Mapping[str, Absence]:
        folders = tree.Folders(str(self._root))
        return {path: self._absence(folders, path) for path in paths}

    def read(self, entry: tree.Entry) -> Iterator[bytes]:
        with open(self._root / entry.path, "rb", buffering=0) as file:
            while piece := file.read(_READ_BYTES):
                yield piece

    def _absence(self, folders: tree.Folders, path: str) -> Absence:
        if self._is_unknown(path):
            return Absence.UNKNOWN
        try:
            status = folders.lstat(path)
        except OSError:
            return Absence.UNKNOWN
        if status is None or stat.S_ISDIR(status.st_mode):
            return Absence.GONE
        return Absence.IGNORED

    def _is_unknown(self, path: str) -> bool:
        """Whether it, or a folder above it, could not be looked at by the last scan."""
        while path:
            if path in self._unknown:
                return True
            path = path.rpartition("/")[0]
        return "." in self._unknown

    def _list(self, folder: str) -> Listing:
        listing = list_project(self._root / folder)
        if not folder:
            return listing
        return Listing(
            [f"{folder}/{path}" for path in listing.paths],
            [(f"{folder}/{path}", reason) for path, reason in listing.problems],
        )

    def _load_index(self) -> tree.Index:
        try:
            return tree.index_from_json(self._index_file.read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError):
            return {}

    def _save_index(self, index: tree.Index) -> None:
        try:
            self._index_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(self._index_file, tree.index_to_json(index).encode("ascii"))
        except OSError as exc:
            log.info("cannot keep the hashes of %s: %s", self._root, exc)
