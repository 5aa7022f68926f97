"""The work dir on the runtime: how the files in it are, and changing them safely.

A file appears under its name by a rename only, whole, and only in the place of what was expected there;
so whoever is killed at any moment leaves every file old or new, and the ledger tells which are ours.
"""

from __future__ import annotations

import base64
import contextlib
import os
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from . import blocks, changes, folders, placing, rules, tree
from .changes import NOTHING, Change
from .ledger import Journal, Ledger
from .listing import Listing, list_others
from .placing import Failure, Placer
from .tree import Entry


class Stopped(Exception):
    """Nothing more can be written here. What was done until then stays, and is recorded."""


class View(NamedTuple):
    """By which eyes a work dir is looked at."""

    rules: Optional[rules.Rules] = None
    """None: only what sync put there is seen."""
    limits: tree.Limits = tree.NO_LIMITS
    outputs: bool = False
    """Whether outputs are looked for."""


class Survey(NamedTuple):
    """How the project's files in a work dir are now."""

    baseline: Dict[str, str]
    """The fingerprint of each owned file when both sides last had the same."""
    unchanged: List[str]
    """The owned files that are still so; most of them, so they take no more than their name."""
    entries: List[Entry]
    """The rest of the project's files: what changed, what is new there, and links."""
    problems: List[tree.Problem]
    outputs: List[Entry]
    brought: Dict[str, str]
    """The fingerprint of each file that was brought to the other side as an output."""
    hidden: Set[str]
    """Owned files of which nobody can say how they are now; why is among the problems."""
    empty: List[str]
    """Folders of the project that hold nothing at all."""
    offered: Dict[str, List[str]]
    """Files of which the other side may have one of these, from syncs that did not end."""

    @property
    def fingerprints(self) -> Dict[str, str]:
        """What exists."""
        found = {path: self.baseline[path] for path in self.unchanged}
        found.update((entry.path, entry.fingerprint) for entry in self.entries)
        return found

    @property
    def tree(self) -> str:
        """The hash of what exists."""
        return tree.hash_fingerprints(self.fingerprints)

    def hashes(self) -> Tuple[str, str]:
        """The hash of what exists, and that of what both sides last had."""
        found = self.fingerprints
        ancestor = tree.hash_fingerprints(self.baseline)
        return (ancestor if found == self.baseline else tree.hash_fingerprints(found)), ancestor


def make(workdir: str) -> None:
    """Make the work dir, if there is none, and leave a sign that it was empty and may become ours."""
    path = os.fsencode(workdir)
    os.makedirs(path, exist_ok=True)
    if not os.listdir(path):
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.join(path, os.fsencode(tree.OURS)))


class WorkDir:
    """One work dir. Whoever changes it holds its lock; see `agent.sync`."""

    def __init__(self, path: str) -> None:
        self.ledger = Ledger(path)
        self.path = self.ledger.root
        self._staging = self.ledger.path + "/staging"
        self._placer = Placer(self.path, self._staging, self.ledger.index)
        self.ledger.read(self._placer.current)

    # --- looking at it ---

    def is_bare(self) -> bool:
        """Nothing is there, and nothing was: it is the same by any rules."""
        ledger = self.ledger
        if ledger.baseline or ledger.brought or ledger.folders or ledger.offered:
            return False
        try:
            return set(os.listdir(self.path)) <= {tree.OURS}
        except FileNotFoundError:
            return True

    def owned(self) -> Set[str]:
        """The paths of what sync put there."""
        return set(self.ledger.baseline)

    def differing(self, paths: Iterable[str]) -> List[str]:
        """Those of the paths at which something else is than both sides last had."""
        return [
            path
            for path in paths
            if self._placer.current(path) != self.ledger.baseline.get(path, NOTHING)
        ]

    def survey(self, view: View) -> Survey:
        """How the project's files are now; hashes only those that may have changed."""
        ledger = self.ledger
        others = Listing([], [], [], [])
        if view.rules is not None:
            others = list_others(self.path, view.rules, ledger.baseline)
        paths = sorted([*ledger.baseline, *others.project])
        known = ledger.baseline
        if ledger.offered:
            # Of those the other side has to see an entry, changed or not.
            known = {path: known[path] for path in known if path not in ledger.offered}
        found = tree.scan(self.path, paths, ledger.index, view.limits, known)
        brought = others.outputs if view.outputs else []
        outputs = tree.scan(self.path, sorted(brought), ledger.index)
        stamps = found.stamps
        stamps.take_all(outputs.stamps)
        if not view.outputs:
            for path in ledger.brought:
                if path in ledger.index:
                    stamps.take(path, ledger.index)
        hashed = found.hashed + outputs.hashed
        ledger.changed = ledger.changed or hashed > 0 or len(stamps) != len(ledger.index)
        ledger.index.clear()
        ledger.index.take_all(stamps)
        problems = [*others.problems, *found.problems, *outputs.problems]
        hidden = self._hidden({*found.unchanged, *(e.path for e in found.entries)}, problems)
        return Survey(
            ledger.baseline,
            found.unchanged,
            found.entries,
            problems,
            outputs.entries,
            ledger.brought,
            hidden,
            others.empty,
            ledger.offered,
        )

    def _hidden(self, seen: Set[str], problems: List[tree.Problem]) -> Set[str]:
        """The owned files that were not seen though they may be there; adds to the problems."""
        unseen = {path for path, _ in problems}
        hidden = set()
        for path in self.ledger.baseline:
            if path not in seen:
                link = self._link_above(path)
                if link and link not in seen and link not in unseen:
                    unseen.add(link)
                    problems.append((link, "is a link now; what lay below it is left alone"))
                if _is_below(path, unseen):
                    hidden.add(path)
        return hidden

    def _link_above(self, path: str) -> str:
        """The folder above it that is a link; "" when none is."""
        folder = path.rpartition("/")[0]
        while folder and not os.path.islink(self.path + "/" + folder):
            folder = folder.rpartition("/")[0]
        return folder

    def agree(self, survey: Survey) -> None:
        """What is there now is what both sides have: whoever made it so, it is as sync left it."""
        agreed = {path: self.ledger.baseline[path] for path in survey.hidden}
        agreed.update(survey.fingerprints)
        if agreed != self.ledger.baseline:
            self.ledger.baseline, self.ledger.changed = agreed, True

    def unsettled(self, survey: Survey, told: Sequence[str]) -> List[List[Any]]:
        """The folders that are not yet on both sides or on none; `told` are those of the other side."""
        both_had = self.ledger.folders
        paths = {*both_had, *survey.empty, *map(tree.check_name, told)}
        return folders.unsettled(tree.Folders(self.path), both_had, set(told), paths)

    def look_at(self, path: str) -> Survey:
        """What lies at `path` or below it, whatever the rules say, as if all of it were outputs."""
        paths: List[str] = [path]
        problems: List[tree.Problem] = []
        if self._placer.folders.is_real(path):
            paths, problems = _list_all(self.path, path)
        found = tree.scan(self.path, sorted(paths), self.ledger.index)
        self.ledger.changed = self.ledger.changed or found.hashed > 0
        self.ledger.index.take_all(found.stamps)
        known = {**self.ledger.baseline, **self.ledger.brought}
        problems = [*problems, *found.problems]
        return Survey({}, [], [], problems, found.entries, known, set(), [], {})

    def offer(self, path: str, fingerprint: str, skip: int, signature: Optional[str]) -> Change:
        """How to send the file that has this fingerprint to who has already `skip` bytes of it, or a
        file with this signature; `forget` when there is another by now."""
        found = tree.scan(self.path, [tree.check_name(path)], self.ledger.index).entries
        if not found or found[0].fingerprint != fingerprint or found[0].kind != tree.FILE:
            return Change(changes.FORGET, path, NOTHING)
        if signature is not None:
            old = blocks.signature_from_bytes(base64.b64decode(signature))
            recipe = blocks.find_recipe(old, self.path + "/" + path)
            if recipe:
                return Change(changes.PATCH, path, fingerprint, found[0], recipe=recipe)
        return Change(changes.SEND, path, fingerprint, found[0], skip=min(skip, found[0].size))

    def read(self, change: Change) -> Iterator[bytes]:
        """The content that a change from `offer` brings."""
        return tree.read_pieces(self.path + "/" + change.path, change.pieces)

    def keep_hashes(self) -> None:
        """Write down what the survey found, if that is possible now: the next one costs less."""
        with contextlib.suppress(OSError), self.ledger.locked(wait_s=0):
            # Read without the lock, what we know may be older by now than what is written there.
            if self.ledger.is_current():
                self.ledger.save()
                self.ledger.is_read()

    # --- changing it ---

    def check(self, unpacker: changes.Unpacker) -> List[Failure]:
        """Which of the changes of the stream could not be made."""
        return placing.attempt(unpacker.changes(), self._placer.check)

    def apply(
        self, unpacker: changes.Unpacker, parts: Sequence[str] = (), *, goes_on: bool = False
    ) -> List[Failure]:
        """Make the changes of the stream one after the other; those that cannot be made are values.

        `parts` are those of `staged` that the stream goes on with; with `goes_on` the journal of before
        does, too. Raises Stopped when the disk is full or broken; the changes made until then are kept.
        """
        try:
            with self.ledger.journal(goes_on=goes_on) as journal:
                placing.clear(self._staging, parts)
                os.makedirs(self._staging, exist_ok=True)
                failures = placing.attempt(
                    unpacker.changes(),
                    lambda change: self._make(change, unpacker.content(), journal),
                )
        except OSError as exc:
            placing.clear(self._staging)  # It makes room.
            raise Stopped(exc.strerror or str(exc)) from exc
        placing.clear(self._staging)
        return failures

    def staged(self) -> Dict[str, int]:
        """How much of which contents a sync that was cut left here, by digest."""
        return placing.staged_parts(self._staging)

    def _make(self, change: Change, content: Iterator[memoryview], journal: Journal) -> None:
        if change.op == changes.BROUGHT:
            self.ledger.record_brought(change)
            return
        if change.op in changes.FOLDER_OPS:
            is_there = self._placer.settle_folder(change)
            wanted = change.op == changes.MKDIR
            self.ledger.record_folder(change.path, is_there=is_there and wanted)
            return
        current = self._placer.check(change)
        if current != change.fingerprint or self.ledger.baseline.get(change.path) != current:
            journal.announce(change)
        if current != change.fingerprint and change.op != changes.KEEP:
            self._placer.do(change, content)
            current = change.fingerprint
        is_so = current == change.fingerprint
        self.ledger.record(change, self._placer.folders.lstat(change.path) if is_so else None)
        journal.settle(change)


def _list_all(root: str, folder: str) -> Tuple[List[str], List[tree.Problem]]:
    """Every file and link below a folder, but for what is never synced."""
    paths: List[str] = []
    problems: List[tree.Problem] = []
    pending = [folder]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root + "/" + folder) as entries:
                for entry in entries:
                    if entry.name.lower() != ".git":
                        is_folder = entry.is_dir(follow_symlinks=False)
                        (pending if is_folder else paths).append(folder + "/" + entry.name)
        except OSError as exc:
            problems.append((folder, "cannot be listed: {}".format(exc.strerror or exc)))
    return paths, problems


def _is_below(path: str, folders: Set[str]) -> bool:
    while path and path not in folders:
        path = path.rpartition("/")[0]
    return (path or ".") in folders
