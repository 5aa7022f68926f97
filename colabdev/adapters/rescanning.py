"""Looking at a few paths of a project in place of all of it, where that tells the same."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from colabdev.agent import closeup, rules, tree
from colabdev.agent.noticing import git_index
from colabdev.agent.stamps import Index
from colabdev.agent.tree import Entry
from colabdev.agent.worth_watching import Walk, known
from colabdev.models import TreeScan

_Outside = tuple[int, int, int]


class Rescanner:
    """Goes by what the last scan saw, for as long as what decides which files belong to the project is
    as it was then: the rules, and what git tracks."""

    def __init__(
        self, root: Path, scan: TreeScan, rule_files: Collection[Path], began_ns: int
    ) -> None:
        """`rule_files` are those by which the project was listed for the scan that began then."""
        self._root = root
        self._scan = scan
        self._began_ns = began_ns
        self._deciding = {place: _outside(place) for place in (*rule_files, *self._indexes())}

    def rescan(
        self,
        paths: Collection[str],
        folders: Collection[str],
        index: Index,
        max_bytes: int,
    ) -> Mapping[str, Entry | None] | None:
        """See `ports.LocalTree.rescan`."""
        if _outside(self._root)[2] != self._scan.root:
            return None
        if not all(self._is_as_it_was(place) for place in self._deciding):
            return None
        if not all(self._is_ours(path) for path in paths):
            return None
        return closeup.look(str(self._root), paths, index, max_bytes, folders)

    @cached_property
    def walk(self) -> Walk:
        """What the rules of the scan do not ignore, and what it found."""
        return Walk(str(self._root), self._rules, known({e.path for e in self._scan.entries}))

    @cached_property
    def _rules(self) -> rules.Rules:
        document = self._scan.rules
        return rules.from_document(document) if document else rules.Rules()

    @cached_property
    def _unknown(self) -> frozenset[str]:
        return frozenset(path for path, _ in self._scan.problems)

    def _is_as_it_was(self, place: Path) -> bool:
        """Whether it looks as it did, and that was before the scan began."""
        was = self._deciding[place]
        return was == _outside(place) and tree.is_older(was[0], was[1], self._began_ns)

    def _is_ours(self, path: str) -> bool:
        """Whether the rules of the scan surely decide about it, and have it in the project."""
        if rules.is_rule_file(path) or not self._unknown.isdisjoint([".", path, *_above(path)]):
            return False
        return all(map(self._has_no_other_rules, _above(path))) and self.walk.matters_at(path)

    def _has_no_other_rules(self, folder: str) -> bool:
        """Whether no rules stand there that the scan did not see, nor a repository."""
        place, key = f"{self._root}/{folder}", folder + "/"
        has_rules = os.path.lexists(f"{place}/.gitignore")
        is_repository = os.path.lexists(f"{place}/.git")
        seen = key in self._rules.repositories
        return (not has_rules or key in self._rules.sets) and is_repository == seen

    def _indexes(self) -> Iterator[Path]:
        """What git knows of the project and of the repositories in it."""
        for folder in ("", *self._rules.repositories):
            place = git_index(f"{self._root}/{folder}")
            if place:
                yield Path(place)


def _above(path: str) -> Iterable[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _outside(place: Path) -> _Outside:
    """The times and the inode of what stands there; nothing looks like zeros."""
    try:
        status = os.stat(place)
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
