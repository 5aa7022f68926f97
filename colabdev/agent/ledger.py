"""What `.colabdev/` in a work dir says: whose it is, what in it is ours, and by which rules.

It holds `marker.json` (whose it is), `owned.json` (what sync put there, and how it was then), `journal`
(what a sync that did not end was about to do), `rules.json`, `lock` and `staging/`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
import time
from typing import Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from . import changes, rules, tree
from .changes import NOTHING, Change
from .crash_points import crash_point
from .stamps import Index, Stamp, stamp_of

SCHEMA = 1
_LOCK_POLL_S = 0.05
_TRIES = 3
_ROWS_PER_LINE = 500
_OWNED_HEAD = '{{"schema": {}, "files": [\n'.format(SCHEMA)
_OFFERED = "offered"
_MADE = "made"
_OWNED_TAIL = "]}\n"


class Foreign(Exception):
    """The work dir belongs to somebody else. The text says to whom."""


class Ledger:
    """The books of one work dir.

    Making one reads nothing: `check`, `claim`, `locked` and the rules need no more. `read` brings in
    what is ours, `save` writes it down. Whoever changes the work dir holds the lock.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") or "/"
        self.path = self.root + "/" + tree.OURS
        self.baseline: Dict[str, str] = {}
        """The fingerprint of each owned file when both sides last had the same."""
        self.brought: Dict[str, str] = {}
        """The fingerprint of each file that was brought to the other side as an output."""
        self.folders: Set[str] = set()
        """The folders that both sides last had; see `folders`."""
        self.offered: Dict[str, List[str]] = {}
        """What syncs that did not end sent to the other side, by path: any of it may be there."""
        self.index = Index()
        """Hashes that need not be found again."""
        self.changed = False
        """There is something to be saved."""
        self._read_versions: List[Tuple[int, ...]] = []

    # --- whose it is ---

    def check(self, marker: Dict[str, str]) -> None:
        """Raise Foreign unless the work dir is `marker`'s, or nobody's and free to take."""
        try:
            with open(self.path + "/marker.json", encoding="ascii") as file:
                found = json.load(file)
        except FileNotFoundError:
            if not os.path.isdir(self.path) and os.path.isdir(self.root) and os.listdir(self.root):
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
        os.makedirs(self.path, exist_ok=True)
        if not os.path.exists(self.path + "/marker.json"):
            self._write("marker.json", [json.dumps(dict(marker, schema=SCHEMA))])

    @contextlib.contextmanager
    def locked(self, wait_s: float) -> Iterator[None]:
        """Held while the work dir is changed; OSError when somebody else holds it for longer."""
        deadline = time.monotonic() + wait_s
        with open(self.path + "/lock", "ab") as file:
            while not _try_lock(file.fileno()):
                if time.monotonic() >= deadline:
                    reason = "another sync of this project has been running for long"
                    raise OSError(errno.EBUSY, reason)
                time.sleep(_LOCK_POLL_S)
            yield

    def rules(self, key: Optional[str]) -> Optional[rules.Rules]:
        """The project's rules as they were last told, if those are the ones with this key; with None
        whichever they are."""
        try:
            with open(self.path + "/rules.json", encoding="ascii") as file:
                text = file.read()
            return rules.from_document(text) if key in (None, rules.key_of(text)) else None
        except (FileNotFoundError, ValueError):
            return None

    def keep_rules(self, text: str) -> None:
        """Write down the project's rules, if that is possible now."""
        with contextlib.suppress(OSError):
            if os.path.isdir(self.path):
                self._write("rules.json", [text])

    # --- what is ours ---

    def is_current(self) -> bool:
        """Nobody wrote down anything since this was read."""
        return self._versions() == self._read_versions

    def read(self, current: Callable[[str], str]) -> None:
        """Bring in what is ours. `current` says the fingerprint of what is at a path now: what a sync
        that did not end was about to do is taken as done, where it was."""
        for _ in range(_TRIES):
            self._forget()
            self._read_versions = self._versions()
            try:
                self._read_owned()
            except FileNotFoundError:
                pass
            except (ValueError, TypeError, IndexError, struct.error):
                # To own nothing is always safe: what is there is then adopted when it is the same, and
                # else reported and left alone.
                self._forget()
                self.changed = True
            self._replay(current)
            # Else a sync wrote it down meanwhile: an old list and no journal would be half of it.
            if self.is_current():
                return

    def _forget(self) -> None:
        self.baseline, self.brought, self.folders, self.offered = {}, {}, set(), {}
        self.index.clear()
        self.changed = False

    def save(self) -> None:
        """Write down what is ours, when that changed; of the journal only what was offered is needed
        then."""
        if self.changed:
            self._write("owned.json", self._owned_lines())
            self.changed = False
        if self.offered:
            rows = (
                [path, mark, _OFFERED] for path, marks in self.offered.items() for mark in marks
            )
            self._write("journal", [json.dumps(row) + "\n" for row in rows])
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path + "/journal")

    @contextlib.contextmanager
    def journal(self, *, goes_on: bool = False) -> Iterator[Journal]:
        """A new journal, or the one there is; it counts until what is ours is saved."""
        if not goes_on and os.path.exists(self.path + "/journal"):
            self.save()  # What was replayed is written down before a new journal begins.
        with open(self.path + "/journal", "ab", buffering=0) as file:
            journal = Journal(file)
            try:
                yield journal
            finally:
                journal.flush()

    def is_read(self) -> None:
        """What is written down by now is what is known here."""
        self._read_versions = self._versions()

    @contextlib.contextmanager
    def offering(self) -> Iterator[Callable[[Change], None]]:
        """What is given to it is sent to the other side now, and lost sight of should that be cut."""
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open(self.path + "/journal", "ab", buffering=0))
            except OSError:
                yield lambda change: None  # Then an edit may look like a conflict; nothing is lost.
                return
            journal = Journal(file)
            yield journal.offer

    def record(self, change: Change, status: Optional[os.stat_result]) -> None:
        """The change was made; what is there now has this status."""
        self.changed = True
        self.brought.pop(change.path, None)
        if change.entry is None:
            self.baseline.pop(change.path, None)
            self.index.pop(change.path, None)
            return
        self.baseline[change.path] = change.fingerprint
        if change.entry.kind == tree.FILE and status is not None:
            self.index[change.path] = stamp_of(status, change.entry.digest)

    def record_brought(self, change: Change) -> None:
        """Not in the journal: lost, it is said again by the next sync."""
        self.changed = True
        known = self.baseline if change.path in self.baseline else self.brought
        known[change.path] = change.fingerprint

    def record_folder(self, path: str, *, is_there: bool) -> None:
        """A folder is on both sides from now on, or is not ours any more. Not in the journal either."""
        if is_there != (path in self.folders):
            self.changed = True
            (self.folders.add if is_there else self.folders.discard)(path)

    # --- our own files ---

    def _versions(self) -> List[Tuple[int, ...]]:
        """What tells whether somebody wrote our files meanwhile."""
        found: List[Tuple[int, ...]] = []
        for name in ("owned.json", "journal"):
            try:
                status = os.stat(self.path + "/" + name)
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except FileNotFoundError:
                found.append(())
        return found

    def _read_owned(self) -> None:
        with open(self.path + "/owned.json", encoding="ascii") as file:
            if file.readline() != _OWNED_HEAD:
                raise ValueError("another format")
            # A line at a time: a large tree is never in memory as text.
            for line in file:
                if line == _OWNED_TAIL:
                    return
                for path, fingerprint, stamp, *kind in json.loads(line.rstrip(",\n")):
                    if kind == ["folder"]:
                        self.folders.add(tree.check_name(path))
                    elif fingerprint:
                        (self.brought if kind else self.baseline)[path] = fingerprint
                    if stamp is not None:
                        digest = stamp[4] or fingerprint[2:]
                        self.index[path] = Stamp(stamp[0], stamp[1], stamp[2], stamp[3], digest)
        raise ValueError("the end is missing")

    def _owned_lines(self) -> Iterator[str]:
        """One JSON document that can be read by lines."""
        yield _OWNED_HEAD
        paths = sorted({*self.baseline, *self.brought, *self.index})
        folders = sorted(self.folders)
        count = len(paths) + len(folders)
        for start in range(0, count, _ROWS_PER_LINE):
            end = start + _ROWS_PER_LINE
            rows = [self._owned_row(path) for path in paths[start:end]]
            first = max(start - len(paths), 0)
            rows += [
                [path, NOTHING, None, "folder"]
                for path in folders[first : max(end - len(paths), 0)]
            ]
            comma = "," if end < count else ""
            yield json.dumps(rows, separators=(",", ":")) + comma + "\n"
        yield _OWNED_TAIL

    def _replay(self, current: Callable[[str], str]) -> None:
        intended: Dict[str, Tuple[str, str]] = {}
        made: Dict[str, str] = {}
        for line in _lines(self.path + "/journal"):
            try:
                path, fingerprint, op = json.loads(line.decode("ascii"))
                tree.check_name(path)
            except (ValueError, AttributeError):
                break  # Torn: what it announces was never begun.
            if op == _OFFERED:
                # All of them: the last may have been cut before it came, and one before it not.
                marks = self.offered.setdefault(path, [])
                if fingerprint not in marks:
                    marks.append(fingerprint)
            elif op == _MADE:
                intended.pop(path, None)
                self.offered.pop(path, None)
                made[path] = fingerprint
            else:
                made.pop(path, None)
                intended[path] = (fingerprint, op)
        self.changed = self.changed or bool(intended or made)
        for path, fingerprint in made.items():
            # Whatever is there by now is an edit of it.
            if fingerprint == NOTHING:
                self.baseline.pop(path, None)
            else:
                self.baseline[path] = fingerprint
        for path, (fingerprint, op) in intended.items():
            now = current(path)
            if op == changes.FORGET or now == fingerprint == NOTHING:
                self.baseline.pop(path, None)
            elif now == fingerprint:
                self.baseline[path] = fingerprint

    def _owned_row(self, path: str) -> List[Any]:
        """A file that is ours, or was brought, or whose hash is worth keeping all the same."""
        kind = [] if path in self.baseline or path not in self.brought else ["brought"]
        fingerprint = self.baseline.get(path) or self.brought.get(path, NOTHING)
        stamp = self.index.get(path)
        if stamp is None:
            return [path, fingerprint, None, *kind]
        # A digest is most of the row, and nearly always in the fingerprint already.
        same = fingerprint[2:] == stamp.digest
        return [path, fingerprint, [*stamp[:4], "" if same else stamp.digest], *kind]

    def _write(self, name: str, lines: Iterable[str]) -> None:
        """Replace one of our own files, atomically."""
        staging = "{}/{}.{}".format(self.path, name, os.getpid())
        try:
            with open(staging, "w", encoding="ascii") as file:
                file.writelines(lines)
            os.replace(staging, self.path + "/" + name)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(staging)


class Journal:
    """What a sync is about to do, written before the deed: should it be killed, what is there by then is
    ours."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._made = b""
        """What is written down with the next line: nothing is lost without it but time."""

    def announce(self, change: Change) -> None:
        """Write down a change that is about to be made."""
        if not self.write(change.path, change.fingerprint, change.op):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        crash_point("agent.journaled")

    def settle(self, change: Change) -> None:
        """Have it written down that the change was made, so that both sides have had it."""
        self._made += _journal_line(change.path, change.fingerprint, _MADE)

    def flush(self) -> None:
        """Write down all of it, if there is room."""
        with contextlib.suppress(OSError):
            self._file.write(self._made)
        self._made = b""

    def offer(self, change: Change) -> None:
        """Write down what is sent to the other side, if there is room."""
        self.write(change.path, change.fingerprint, _OFFERED)

    def write(self, path: str, fingerprint: str, op: str) -> bool:
        """Add a line; whether there was room for it."""
        lines = self._made + _journal_line(path, fingerprint, op)
        self._made = b""
        return self._file.write(lines) == len(lines)


def _journal_line(path: str, fingerprint: str, op: str) -> bytes:
    return json.dumps([path, fingerprint, op]).encode("ascii") + b"\n"


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
