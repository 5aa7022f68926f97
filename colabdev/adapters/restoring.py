"""Unpacking an archive from Drive on this computer: safely, and whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from colabdev.adapters.files import place_folder
from colabdev.agent import archive, tree
from colabdev.agent.archive import Archive
from colabdev.core.portability import windows_objection
from colabdev.errors import ColabdevError
from colabdev.models import Unpacked
from colabdev.ports import BrokenArchive

_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@contextmanager
def open_restore_target(target: Path) -> Iterator[FolderInTheMaking]:
    """A folder that will be `target`, which is missing or empty; made beside it, and gone if it did
    not get there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".colabdev-restore-") as made:
            yield FolderInTheMaking(Path(made), target)
    except OSError as exc:
        raise ColabdevError(
            f"cannot restore into {target}: {exc.strerror or exc}",
            hint="make room or give write access there, or name another place with --to",
        ) from exc


class FolderInTheMaking:
    """`ports.RestoreTarget`."""

    def __init__(self, made: Path, target: Path) -> None:
        self._archive = made / "archive.zip"
        self._tree = made / "tree"
        self._target = target

    def receive(self, pieces: Iterable[bytes]) -> None:
        with self._archive.open("wb") as file:
            for piece in pieces:
                file.write(piece)

    def unpack(self, tree_hash: str) -> Unpacked:
        with self._archive.open("rb") as file:
            try:
                packed = Archive(file)
                if packed.summary.tree != tree_hash:
                    raise archive.Broken("it is of another tree than its name says")
                packed.verify()
                problems = _unpack(packed, self._tree)
            except archive.Broken as exc:
                raise BrokenArchive(str(exc)) from exc
            left_out = [(path, f"is not in the archive: it {why}") for path, why in packed.left_out]
            files = len(packed.entries) - len(problems)
            return Unpacked(files, tuple(sorted([*problems, *left_out])))

    def place(self) -> None:
        place_folder(self._tree, self._target)


def _unpack(packed: Archive, root: Path) -> list[tree.Problem]:
    """All entries below `root`; those that this computer cannot have are values."""
    root.mkdir()
    problems: list[tree.Problem] = []
    # Links last: so no file is ever written through one.
    for entry in sorted(packed.entries, key=lambda entry: (entry.kind == tree.LINK, entry.path)):
        try:
            _put(packed, entry, root)
        except _Impossible as exc:
            problems.append((entry.path, str(exc)))
        except (OSError, UnicodeError) as exc:
            if isinstance(exc, OSError) and exc.errno in _FATAL:
                raise
            reason = exc.strerror if isinstance(exc, OSError) else "no such name is possible here"
            problems.append((entry.path, f"cannot be made here: {reason or exc}"))
    return problems


class _Impossible(Exception):
    """This computer cannot have that file; the text says why."""


def _put(packed: Archive, entry: tree.Entry, root: Path) -> None:
    objection = windows_objection(entry.path) if os.name == "nt" else ""
    if objection:
        raise _Impossible(objection)
    place = root / entry.path
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == tree.LINK:
            place.symlink_to(entry.target)
            return
        with place.open("xb") as file:
            for piece in packed.content(entry):
                file.write(piece)
    except (FileExistsError, NotADirectoryError):
        raise _Impossible("another file has that name here, where case does not count") from None
    if entry.executable:
        place.chmod(place.stat().st_mode | 0o111)
    os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns))
