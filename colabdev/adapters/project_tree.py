"""A project's tree on this computer: scanned with the hashes of last time, read, and written."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from colabdev.adapters.block_files import BlockFiles
from colabdev.adapters.empty_folders import EmptyFolders
from colabdev.adapters.explaining import Explainer
from colabdev.adapters.files import cache_name, write_cache
from colabdev.adapters.project_files import list_project
from colabdev.adapters.project_rules import ProjectRules, RuleSettings
from colabdev.adapters.project_watch import watch_project
from colabdev.adapters.project_writer import ProjectWriter
from colabdev.adapters.rescanning import Rescanner
from colabdev.adapters.rule_files import Compile
from colabdev.agent import blocks, folders, tree
from colabdev.agent.blocks import Recipe, Signature
from colabdev.agent.changes import OTHER, Change
from colabdev.agent.noticing import Noticer, wait_for_git
from colabdev.agent.placing import Failure
from colabdev.agent.stamps import Index
from colabdev.core.ignore import Filter
from colabdev.errors import ColabdevError
from colabdev.models import Absence, Explanation, TreeScan
from colabdev.ports import Steps


@dataclass(frozen=True, slots=True)
class TreeSettings:
    """How a project is looked at."""

    index_dir: Path
    """Where the hashes, rules and blocks of last time are kept, in files of their own for each project.
    All of them are caches: what cannot be read or written is found out anew."""
    max_bytes: int
    compile_rules: Compile
    rules: RuleSettings


def project_gone(root: Path) -> ColabdevError:
    """The error for a project whose folder is not there, or on a disk that is not."""
    return ColabdevError(
        f"cannot sync {root}: the folder is not there", hint="bring it back; nothing was deleted"
    )


class ProjectTree:
    """`ports.LocalTree` on the local file system."""

    def __init__(self, root: Path, settings: TreeSettings) -> None:
        self._root = root
        self._settings = settings
        name = cache_name(root)
        self.cache_prefix = settings.index_dir / name
        """Every file that is kept about the project begins with it."""
        self._index_file = settings.index_dir / f"{name}.stamps"
        rules_file = settings.index_dir / f"{name}.rules.json"
        self._rules = ProjectRules(root, settings.rules, rules_file, settings.compile_rules)
        self._empty_folders = EmptyFolders(root, settings.index_dir / f"{name}.folders.json")
        self._blocks = BlockFiles(settings.index_dir / f"{name}.blocks")
        self._lock_file = settings.index_dir / f"{name}.lock"
        self._index = Index()
        self._unknown: set[str] = set()
        self._rescanner = Rescanner(root, TreeScan((), ()), (), 0)

    def scan(self) -> TreeScan:
        began_ns = time.time_ns()
        index = self._load_index()
        entries: list[tree.Entry] = []
        problems: list[tree.Problem] = []
        stamps = Index()
        rules = []
        repositories = []
        own = Filter(self._rules.own())
        limits = tree.Limits(self._settings.max_bytes, self._settings.max_bytes)
        pending = [""]
        while pending:
            folder = pending.pop()
            listing = list_project(self._root / folder, self._settings.compile_rules)
            if folder:
                listing = listing.below(folder)
                repositories.append(folder)
            paths = own.kept(listing.paths)
            scan = tree.scan(str(self._root), paths, index, limits)
            entries += scan.entries
            problems += [*listing.problems, *scan.problems]
            rules += listing.rules
            stamps.take_all(scan.stamps)
            # A folder in git's list is a repository of its own, with a list of its own.
            pending += [
                f"{path}/" for path in scan.folders if os.path.lexists(self._root / path / ".git")
            ]
        if stamps != index:
            write_cache(self._index_file, stamps.to_bytes())
        self._index = stamps
        self._unknown = {path for path, _ in problems}
        document = self._rules.document(rules, sorted(repositories))
        scanned = TreeScan(
            entries=tuple(entries),
            problems=tuple(sorted(problems)),
            rules=document,
            root=self._inode(),
            folders=self._empty_folders.find(document),
        )
        self._rescanner = Rescanner(self._root, scanned, [file.file for file in rules], began_ns)
        return scanned

    def rescan(
        self, paths: Collection[str], folders: Collection[str]
    ) -> Mapping[str, tree.Entry | None] | None:
        return self._rescanner.rescan(paths, folders, self._index, self._settings.max_bytes)

    def rules_key(self) -> str:
        return self._rules.last_key()

    def watch(self) -> Noticer:
        return watch_project(self._rescanner.walk)

    def wait_for_git(self) -> None:
        wait_for_git(str(self._root))

    def absences(self, paths: Iterable[str]) -> Mapping[str, Absence]:
        looked_at = tree.Folders(str(self._root))
        return {path: self._absence(looked_at, path) for path in paths}

    def read(self, change: Change) -> Iterator[bytes]:
        return tree.read_pieces(f"{self._root}/{change.path}", change.pieces)

    def explain(self, path: str) -> Explanation:
        settings = self._settings
        return Explainer(
            root=self._root,
            settings=settings.rules,
            rules=self._rules,
            compile_rules=settings.compile_rules,
            max_bytes=settings.max_bytes,
        ).explain(path)

    def look(self, path: str) -> str:
        try:
            return self._writer().look(path)
        except OSError:
            return OTHER

    def folder(self, path: str) -> str:
        return folders.state_of(tree.Folders(str(self._root)), path)

    def signature(self, path: str, digest: str) -> Signature | None:
        return self._blocks.load(digest) or self._sign(path, digest)

    def recipe(self, entry: tree.Entry, old: Signature) -> Recipe:
        try:
            return blocks.find_recipe(old, f"{self._root}/{entry.path}")
        except OSError:
            return ()  # It went; to send it whole says so.

    def remember_blocks(self, digests: Mapping[str, str]) -> None:
        for path, digest in digests.items():
            if not self._blocks.has(digest):
                signature = self._sign(path, digest)
                if signature is not None:
                    self._blocks.save(digest, signature)
        self._blocks.forget_all_but(digests.values())

    def staged(self) -> Mapping[str, int]:
        return self._writer().staged()

    def write(self, steps: Steps) -> Sequence[Failure]:
        return self._writer().write(steps)

    def tidy(self) -> None:
        self._writer().tidy()

    def _writer(self) -> ProjectWriter:
        return ProjectWriter(self._root, self._index, self._lock_file)

    def _inode(self) -> int:
        try:
            return os.stat(self._root).st_ino
        except OSError as exc:
            raise project_gone(self._root) from exc

    def _sign(self, path: str, digest: str) -> Signature | None:
        """The blocks of the file here, if it is that version."""
        try:
            found, signature = blocks.sign(f"{self._root}/{path}")
        except OSError:
            return None
        return signature if found == digest else None

    def _absence(self, looked_at: tree.Folders, path: str) -> Absence:
        if self._is_unknown(path):
            return Absence.UNKNOWN
        try:
            status = looked_at.lstat(path)
        except OSError:
            return Absence.UNKNOWN
        if status is None or stat.S_ISDIR(status.st_mode):
            return Absence.GONE
        # One that no rule ignores came a moment ago: somebody is replacing it.
        return Absence.UNKNOWN if self._rescanner.walk.matters_at(path) else Absence.IGNORED

    def _is_unknown(self, path: str) -> bool:
        """Whether it, or a folder above it, could not be looked at by the last scan."""
        while path:
            if path in self._unknown:
                return True
            path = path.rpartition("/")[0]
        return "." in self._unknown

    def _load_index(self) -> Index:
        try:
            return Index.from_bytes(self._index_file.read_bytes())
        except OSError:
            return Index()
