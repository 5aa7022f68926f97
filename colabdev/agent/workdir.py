"""The work dir on the runtime: whose it is, which files in it are ours, and changing them safely.

`<workdir>/.colabdev/` holds `marker.json` (whose it is), `owned.json` (what sync put there, and how it
was then), `journal` (what a sync that did not end was about to do), `staging/` and `lock`. A file
appears under its name by a rename only, whole, and only in the place of what was expected there; so
whoever is killed at any moment leaves every file old or new, and the journal tells which are ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from typing import Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple

from . import changes, tree
from .changes import NOTHING, OTHER, Change
from .tree import Entry, Stamp

SCHEMA = 1
_LOCK_POLL_S = 0.05
_ROWS_PER_LINE = 500
_OWNED_HEAD = '{{"schema": {}, "files": [\n'.format(SCHEMA)
_OWNED_TAIL = "]}\n"
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

CONFLICT = "conflict"
PROBLEM = "problem"


class Foreign(Exception):
    """The work dir belongs to somebody else. The text says to whom."""


class Stopped(Exception):
    """Nothing more can be written here. What was done until then stays, and is recorded."""


class Failure(NamedTuple):
    """A change that was not made, and why."""

    path: str
    kind: str
    detail: str


class Survey(NamedTuple):
    """What sync owns in a work dir, and how it is now."""

    baseline: Dict[str, str]
    """The fingerprint of each owned file when sync put it there."""
    entries: List[Entry]
    """Those that still exist, as they are now."""
    problems: List[tree.Problem]

    @property
    def tree(self) -> str:
        """The hash of what still exists."""
        return tree.hash_entries(self.entries)


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
        self._folders = tree.Folders(self.path)
        self._baseline: Dict[str, str] = {}
        self._index: tree.Index = {}
        self._changed = False
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

    def survey(self) -> Survey:
        """How the owned files are now; hashes only those that may have changed."""
        found = tree.scan(self.path, sorted(self._baseline), self._index)
        self._changed = self._changed or found.hashed > 0 or len(found.stamps) != len(self._index)
        self._index = found.stamps
        return Survey(self._baseline, found.entries, found.problems)

    def agree(self, survey: Survey) -> None:
        """What is there now is what both sides have: whoever made it so, it is as sync left it."""
        agreed = {entry.path: entry.fingerprint for entry in survey.entries}
        if agreed != self._baseline:
            self._baseline, self._changed = agreed, True

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
            return self._failures(unpacker, self._check)
        staging = self.ours + "/staging"
        try:
            if os.path.exists(self.ours + "/journal"):
                self.save()  # What was replayed is written down before a new journal begins.
            shutil.rmtree(staging, ignore_errors=True)
            os.makedirs(staging, exist_ok=True)
            with open(self.ours + "/journal", "ab", buffering=0) as journal:
                return self._failures(
                    unpacker, lambda change: self._make(change, unpacker.content(), journal)
                )
        except OSError as exc:
            raise Stopped(exc.strerror or str(exc)) from exc
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _failures(
        self, unpacker: changes.Unpacker, step: Callable[[Change], object]
    ) -> List[Failure]:
        failures = []
        for change in unpacker.changes():
            try:
                step(change)
            except _Refused as exc:
                failures.append(Failure(change.path, exc.args[0], exc.args[1]))
            except OSError as exc:
                if exc.errno in _FATAL:
                    raise
                detail = "cannot be changed on the runtime: {}".format(exc.strerror or exc)
                failures.append(Failure(change.path, PROBLEM, detail))
        return failures

    def _check(self, change: Change) -> str:
        """What is there now, if the change may be made to it."""
        current = self._current(change.path)
        if change.op == changes.FORGET or current in (change.fingerprint, change.expected):
            return current
        if current == NOTHING and change.op in (changes.SEND, changes.MAKE_LINK):
            return current
        if current == OTHER:
            raise _Refused(CONFLICT, "a folder, or no file")
        if current == NOTHING:
            raise _Refused(CONFLICT, "deleted")
        raise _Refused(CONFLICT, "created" if change.expected == NOTHING else "edited")

    def _make(self, change: Change, content: Iterator[memoryview], journal: BinaryIO) -> None:
        current = self._check(change)
        if current != change.fingerprint or self._baseline.get(change.path) != current:
            # Written before the deed: should we be killed, what is there by then is ours.
            row = [change.path, change.fingerprint, change.op]
            line = json.dumps(row).encode("ascii") + b"\n"
            if journal.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if current != change.fingerprint:
            self._do(change, content)
        self._remember(change)

    def _do(self, change: Change, content: Iterator[memoryview]) -> None:
        location = self.path + "/" + change.path
        if change.op == changes.SEND and change.entry is not None:
            staged = self._stage(change.entry, content)
            self._put(staged, change)
        elif change.op == changes.MAKE_LINK and change.entry is not None:
            staged = self.ours + "/staging/link"
            os.symlink(tree.check_target(change.path, change.entry.target), staged)
            self._put(staged, change)
        elif change.op == changes.CHMOD and change.entry is not None:
            os.chmod(location, _mode(change.entry, os.lstat(location)))
        elif change.op == changes.DELETE:
            os.unlink(location)
            self._remove_empty_folders(change.path)

    def _stage(self, entry: Entry, content: Iterator[memoryview]) -> str:
        """The file in the staging folder, complete and proved to be what it should be."""
        staged = self.ours + "/staging/file"
        digest = hashlib.sha256()
        with open(staged, "wb", buffering=0) as file:
            for piece in content:
                digest.update(piece)
                _write_all(file, piece)
            if digest.hexdigest() != entry.digest:
                raise _Refused(PROBLEM, "changed while it was sent; the next sync sends it")
            os.fchmod(file.fileno(), _mode(entry, os.fstat(file.fileno())))
            os.utime(file.fileno(), ns=(entry.mtime_ns, entry.mtime_ns))
        return staged

    def _put(self, staged: str, change: Change) -> None:
        """Move what is staged to its place, if that is still as it was expected to be."""
        self._check(change)
        self._make_folders(change.path.rpartition("/")[0])
        location = self.path + "/" + change.path
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.rmdir(location)  # Only an empty folder goes, and only one gets here.
        os.replace(staged, location)

    def _make_folders(self, folder: str) -> None:
        if not folder or self._folders.is_real(folder):
            return
        self._make_folders(folder.rpartition("/")[0])
        try:
            os.mkdir(self.path + "/" + folder)
        except FileExistsError:
            raise _Refused(CONFLICT, "{} is no folder there".format(folder)) from None
        self._folders.forget()

    def _remove_empty_folders(self, path: str) -> None:
        """Folders that a deletion emptied go with it."""
        folder = path.rpartition("/")[0]
        with contextlib.suppress(OSError):
            while folder:
                os.rmdir(self.path + "/" + folder)
                folder = folder.rpartition("/")[0]
        self._folders.forget()

    def _remember(self, change: Change) -> None:
        self._changed = True
        if change.entry is None:
            self._baseline.pop(change.path, None)
            self._index.pop(change.path, None)
            return
        self._baseline[change.path] = change.fingerprint
        if change.entry.kind == tree.FILE:
            status = self._folders.lstat(change.path)
            if status is not None:
                self._index[change.path] = tree.stamp_of(status, change.entry.digest)

    def _current(self, path: str) -> str:
        """The fingerprint of what is at `path` now."""
        self._folders.forget()
        folder = path.rpartition("/")[0]
        status = self._folders.lstat(path)
        if status is None:
            return NOTHING if self._could_be_made(folder) else OTHER
        if stat.S_ISDIR(status.st_mode):
            return NOTHING if not os.listdir(self.path + "/" + path) else OTHER
        found = tree.scan(self.path, [path], self._index)
        self._index.update(found.stamps)
        return found.entries[0].fingerprint if found.entries else OTHER

    def _could_be_made(self, folder: str) -> bool:
        """Whether nothing but folders is in the way of a file in `folder`."""
        while folder and not self._folders.is_real(folder):
            if os.path.lexists(self.path + "/" + folder):
                return False
            folder = folder.rpartition("/")[0]
        return True

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
        except (ValueError, TypeError, IndexError):
            # To own nothing is always safe: what is there is then adopted when it is the same, and
            # else reported and left alone.
            self._baseline, self._index, self._changed = {}, {}, True
        self._replay()

    def _read_owned(self) -> None:
        with open(self.ours + "/owned.json", encoding="ascii") as file:
            if file.readline() != _OWNED_HEAD:
                raise ValueError("another format")
            # A line at a time: a large tree is never in memory as text.
            for line in file:
                if line == _OWNED_TAIL:
                    return
                for path, fingerprint, stamp in json.loads(line.rstrip(",\n")):
                    self._baseline[path] = fingerprint
                    if stamp is not None:
                        digest = stamp[4] or fingerprint[2:]
                        self._index[path] = Stamp(stamp[0], stamp[1], stamp[2], stamp[3], digest)
        raise ValueError("the end is missing")

    def _owned_lines(self) -> Iterator[str]:
        """One JSON document that can be read by lines."""
        yield _OWNED_HEAD
        paths = sorted(self._baseline)
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
            current = self._current(path)
            if op == changes.FORGET or current == fingerprint == NOTHING:
                self._baseline.pop(path, None)
            elif current == fingerprint:
                self._baseline[path] = fingerprint

    def _owned_row(self, path: str) -> List[Any]:
        fingerprint, stamp = self._baseline[path], self._index.get(path)
        if stamp is None:
            return [path, fingerprint, None]
        # A digest is most of the row, and nearly always in the fingerprint already.
        same = fingerprint[2:] == stamp.digest
        return [path, fingerprint, [*stamp[:4], "" if same else stamp.digest]]

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


class _Refused(Exception):
    """A change that turns out to be impossible while it is made: the kind of failure, and the reason."""


def _mode(entry: Entry, status: os.stat_result) -> int:
    """The file's mode with the entry's executable bit, for whoever may read it."""
    mode = stat.S_IMODE(status.st_mode)
    readable = (mode & 0o444) >> 2
    return mode | readable if entry.executable else mode & ~0o111


def _write_all(file: BinaryIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]


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
