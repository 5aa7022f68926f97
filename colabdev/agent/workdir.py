"""The work dir on the runtime: whose it is, which files in it are ours, and changing them safely.

`<workdir>/.colabdev/` holds `marker.json` (whose it is), `owned.json` (what sync put there, and how it
was then), `journal` (what a sync that did not end was about to do), `staging/` and `lock`. A file
appears under its name by a rename only, whole, and only in the place of what was expected there; so
whoever is killed at any moment leaves every file old or new, and the journal tells which are ours.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import json
import os
import struct
import time
from typing import (
    Any,
    BinaryIO,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from . import blocks, changes, placing, rules, tree
from .changes import NOTHING, Change
from .crash_points import crash_point
from .listing import Listing, list_others
from .placing import Failure, Placer
from .tree import Entry, Stamp

SCHEMA = 1
_LOCK_POLL_S = 0.05
_ROWS_PER_LINE = 500
_OWNED_HEAD = '{{"schema": {}, "files": [\n'.format(SCHEMA)
_OWNED_TAIL = "]}\n"


class Foreign(Exception):
    """The work dir belongs to somebody else. The text says to whom."""


class Stopped(Exception):
    """Nothing more can be written here. What was done until then stays, and is recorded."""


class View(NamedTuple):
    """By which eyes a work dir is looked at."""

    rules: Optional[rules.Rules] = None
    """None: only what sync put there is seen."""
    max_bytes: Optional[int] = None
    """Larger files of the project are problems."""
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

    @property
    def ancestor(self) -> str:
        """The hash of what both sides last had."""
        return tree.hash_fingerprints(self.baseline)


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
        self.path = path.rstrip("/") or "/"
        self.ours = self.path + "/" + tree.OURS
        self._baseline: Dict[str, str] = {}
        self._brought: Dict[str, str] = {}
        self._index = tree.Index()
        self._changed = False
        self._placer = Placer(self.path, self.ours + "/staging", self._index)
        self._load()

    # --- whose it is ---

    def check(self, marker: Dict[str, str]) -> None:
        """Raise Foreign unless the work dir is `marker`'s, or nobody's and free to take."""
        try:
            with open(self.ours + "/marker.json", encoding="ascii") as file:
                found = json.load(file)
        except FileNotFoundError:
            if not os.path.isdir(self.ours) and os.path.isdir(self.path) and os.listdir(self.path):
                raise Foreign("it is not empty, and no sync of ours made it") from None
            return
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Foreign("its marker cannot be read")
        if found.get("computer") != marker["computer"]:
            raise Foreign(
                "it belongs to {} on another computer".format(found.get("project") or "a project")
            )
        if found.get("project") != marker["project"]:
            raise Foreign("it belongs to {} on this computer".format(found.get("project")))

    def claim(self, marker: Dict[str, str]) -> None:
        """Make the work dir `marker`'s; Foreign when it cannot be."""
        self.check(marker)
        os.makedirs(self.ours, exist_ok=True)
        if not os.path.exists(self.ours + "/marker.json"):
            self._write("marker.json", [json.dumps(dict(marker, schema=SCHEMA))])

    @contextlib.contextmanager
    def locked(self, wait_s: float) -> Iterator[None]:
        """Held while the work dir is changed; OSError when somebody else holds it for longer."""
        deadline = time.monotonic() + wait_s
        with open(self.ours + "/lock", "ab") as file:
            while not _try_lock(file.fileno()):
                if time.monotonic() >= deadline:
                    reason = "another sync of this project has been running for long"
                    raise OSError(errno.EBUSY, reason)
                time.sleep(_LOCK_POLL_S)
            yield

    # --- what is ours ---

    def is_current(self) -> bool:
        """Nobody wrote down anything since this was read."""
        return self._versions() == self._read_versions

    def owned(self) -> Set[str]:
        """The paths of what sync put there."""
        return set(self._baseline)

    def differing(self, paths: Iterable[str]) -> List[str]:
        """Those of the paths at which something else is than both sides last had."""
        return [
            path
            for path in paths
            if self._placer.current(path) != self._baseline.get(path, NOTHING)
        ]

    def survey(self, view: View) -> Survey:
        """How the project's files are now; hashes only those that may have changed."""
        others = Listing([], [], [])
        if view.rules is not None:
            others = list_others(self.path, view.rules, self._baseline)
        paths = sorted([*self._baseline, *others.project])
        found = tree.scan(self.path, paths, self._index, view.max_bytes, self._baseline)
        brought = others.outputs if view.outputs else []
        outputs = tree.scan(self.path, sorted(brought), self._index)
        stamps = found.stamps
        stamps.take_all(outputs.stamps)
        if not view.outputs:
            for path in self._brought:
                if path in self._index:
                    stamps.take(path, self._index)
        hashed = found.hashed + outputs.hashed
        self._changed = self._changed or hashed > 0 or len(stamps) != len(self._index)
        self._index.clear()
        self._index.take_all(stamps)
        problems = [*others.problems, *found.problems, *outputs.problems]
        hidden = self._hidden({*found.unchanged, *(e.path for e in found.entries)}, problems)
        return Survey(
            self._baseline,
            found.unchanged,
            found.entries,
            problems,
            outputs.entries,
            self._brought,
            hidden,
        )

    def _hidden(self, seen: Set[str], problems: List[tree.Problem]) -> Set[str]:
        """The owned files that were not seen though they may be there; adds to the problems."""
        unseen = {path for path, _ in problems}
        hidden = set()
        for path in self._baseline:
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
        agreed = {path: self._baseline[path] for path in survey.hidden}
        agreed.update(survey.fingerprints)
        if agreed != self._baseline:
            self._baseline, self._changed = agreed, True

    def rules(self, key: Optional[str]) -> Optional[rules.Rules]:
        """The project's rules as they were last told, if those are the ones with this key; with None
        whichever they are."""
        try:
            with open(self.ours + "/rules.json", encoding="ascii") as file:
                text = file.read()
            return rules.from_document(text) if key in (None, rules.key_of(text)) else None
        except (FileNotFoundError, ValueError):
            return None

    def keep_rules(self, text: str) -> None:
        """Write down the project's rules, if that is possible now."""
        with contextlib.suppress(OSError):
            if os.path.isdir(self.ours):
                self._write("rules.json", [text])

    def look_at(self, path: str) -> Survey:
        """What lies at `path` or below it, whatever the rules say, as if all of it were outputs."""
        paths: List[str] = [path]
        problems: List[tree.Problem] = []
        if self._placer.folders.is_real(path):
            paths, problems = _list_all(self.path, path)
        found = tree.scan(self.path, sorted(paths), self._index)
        self._changed = self._changed or found.hashed > 0
        self._index.take_all(found.stamps)
        known = {**self._baseline, **self._brought}
        problems = [*problems, *found.problems]
        return Survey({}, [], [], problems, found.entries, known, set())

    def offer(self, path: str, fingerprint: str, skip: int, signature: Optional[str]) -> Change:
        """How to send the file that has this fingerprint to who has already `skip` bytes of it, or a
        file with this signature; `forget` when there is another by now."""
        found = tree.scan(self.path, [tree.check_name(path)], self._index).entries
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
        with contextlib.suppress(OSError), self.locked(wait_s=0):
            # Read without the lock, what we know may be older by now than what is written there.
            if self.is_current():
                self.save()

    def save(self) -> None:
        """Write down what is ours, when that changed; the journal is not needed any more then."""
        if self._changed:
            self._write("owned.json", self._owned_lines())
            self._changed = False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.ours + "/journal")

    # --- changing it ---

    def apply(self, unpacker: changes.Unpacker, check_only: bool = False) -> List[Failure]:
        """Make the changes of the stream one after the other; those that cannot be made are values.

        Raises Stopped when the disk is full or broken; the changes made until then are kept.
        """
        if check_only:
            return placing.attempt(unpacker.changes(), self._placer.check)
        staging = self.ours + "/staging"
        try:
            if os.path.exists(self.ours + "/journal"):
                self.save()  # What was replayed is written down before a new journal begins.
            placing.clear(staging)
            os.makedirs(staging, exist_ok=True)
            with open(self.ours + "/journal", "ab", buffering=0) as journal:
                return placing.attempt(
                    unpacker.changes(),
                    lambda change: self._make(change, unpacker.content(), journal),
                )
        except OSError as exc:
            raise Stopped(exc.strerror or str(exc)) from exc
        finally:
            placing.clear(staging)

    def _make(self, change: Change, content: Iterator[memoryview], journal: BinaryIO) -> None:
        if change.op == changes.BROUGHT:
            self._remember_brought(change)
            return
        current = self._placer.check(change)
        if current != change.fingerprint or self._baseline.get(change.path) != current:
            # Written before the deed: should we be killed, what is there by then is ours.
            row = [change.path, change.fingerprint, change.op]
            line = json.dumps(row).encode("ascii") + b"\n"
            if journal.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            crash_point("agent.journaled")
        if current != change.fingerprint:
            self._placer.do(change, content)
        self._remember(change)

    def _remember(self, change: Change) -> None:
        self._changed = True
        self._brought.pop(change.path, None)
        if change.entry is None:
            self._baseline.pop(change.path, None)
            self._index.pop(change.path, None)
            return
        self._baseline[change.path] = change.fingerprint
        if change.entry.kind == tree.FILE:
            status = self._placer.folders.lstat(change.path)
            if status is not None:
                self._index[change.path] = tree.stamp_of(status, change.entry.digest)

    def _remember_brought(self, change: Change) -> None:
        """Not in the journal: lost, it is said again by the next sync."""
        self._changed = True
        known = self._baseline if change.path in self._baseline else self._brought
        known[change.path] = change.fingerprint

    # --- our own files ---

    def _versions(self) -> List[Tuple[int, ...]]:
        """What tells whether somebody wrote our files meanwhile."""
        found: List[Tuple[int, ...]] = []
        for name in ("owned.json", "journal"):
            try:
                status = os.stat(self.ours + "/" + name)
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except FileNotFoundError:
                found.append(())
        return found

    def _load(self) -> None:
        self._read_versions = self._versions()
        try:
            self._read_owned()
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, IndexError, struct.error):
            # To own nothing is always safe: what is there is then adopted when it is the same, and
            # else reported and left alone.
            self._baseline, self._brought, self._changed = {}, {}, True
            self._index.clear()
        self._replay()

    def _read_owned(self) -> None:
        with open(self.ours + "/owned.json", encoding="ascii") as file:
            if file.readline() != _OWNED_HEAD:
                raise ValueError("another format")
            # A line at a time: a large tree is never in memory as text.
            for line in file:
                if line == _OWNED_TAIL:
                    return
                for path, fingerprint, stamp, *kind in json.loads(line.rstrip(",\n")):
                    if fingerprint:
                        (self._brought if kind else self._baseline)[path] = fingerprint
                    if stamp is not None:
                        digest = stamp[4] or fingerprint[2:]
                        self._index[path] = Stamp(stamp[0], stamp[1], stamp[2], stamp[3], digest)
        raise ValueError("the end is missing")

    def _owned_lines(self) -> Iterator[str]:
        """One JSON document that can be read by lines."""
        yield _OWNED_HEAD
        paths = sorted({*self._baseline, *self._brought, *self._index})
        for start in range(0, len(paths), _ROWS_PER_LINE):
            rows = [self._owned_row(path) for path in paths[start : start + _ROWS_PER_LINE]]
            comma = "," if start + _ROWS_PER_LINE < len(paths) else ""
            yield json.dumps(rows, separators=(",", ":")) + comma + "\n"
        yield _OWNED_TAIL

    def _replay(self) -> None:
        """Take what a sync that did not end was about to do as done, where it was."""
        intended: Dict[str, Tuple[str, str]] = {}
        for line in _lines(self.ours + "/journal"):
            try:
                path, fingerprint, op = json.loads(line.decode("ascii"))
                tree.check_name(path)
            except (ValueError, AttributeError):
                break  # Torn: what it announces was never begun.
            intended[path] = (fingerprint, op)
        self._changed = self._changed or bool(intended)
        for path, (fingerprint, op) in intended.items():
            current = self._placer.current(path)
            if op == changes.FORGET or current == fingerprint == NOTHING:
                self._baseline.pop(path, None)
            elif current == fingerprint:
                self._baseline[path] = fingerprint

    def _owned_row(self, path: str) -> List[Any]:
        """A file that is ours, or was brought, or whose hash is worth keeping all the same."""
        kind = [] if path in self._baseline or path not in self._brought else ["brought"]
        fingerprint = self._baseline.get(path) or self._brought.get(path, NOTHING)
        stamp = self._index.get(path)
        if stamp is None:
            return [path, fingerprint, None, *kind]
        # A digest is most of the row, and nearly always in the fingerprint already.
        same = fingerprint[2:] == stamp.digest
        return [path, fingerprint, [*stamp[:4], "" if same else stamp.digest], *kind]

    def _write(self, name: str, lines: Iterable[str]) -> None:
        """Replace one of our own files, atomically."""
        staging = "{}/{}.{}".format(self.ours, name, os.getpid())
        try:
            with open(staging, "w", encoding="ascii") as file:
                file.writelines(lines)
            os.replace(staging, self.ours + "/" + name)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(staging)


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


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def _lines(path: str) -> Iterable[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []
