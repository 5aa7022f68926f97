"""The code that jobs are frozen from, as archives: packed once, kept, and started from again.

~/.cache/colabdev/code/<tree hash>.zip      in the format of `archive`; proved whenever it is taken
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import tempfile
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, Tuple

from . import archive, drive, frozen, jobdir, manifest, storing, tree
from .archive import Archive, Broken
from .daemons import Child
from .drive_http import API_URL
from .jobdir import JobFiles
from .mirror_files import Place
from .opening import open_named
from .refusal import NoCode
from .stores import Store, StoreError, Told
from .workdir import View, WorkDir

SUFFIX = ".zip"
_KEPT = 20
_STAGING = ".staging-"
_STORE_TIMEOUT_S = 300.0


def cached(home: str, tree_hash: object) -> str:
    """Where a machine keeps the archive of that tree, if it does."""
    folder = os.path.join(home, ".cache", tree.OURS[1:], "code")
    return os.path.join(folder, drive.check_part(tree_hash) + SUFFIX)


def pack(files: JobFiles) -> str:
    """The archive of the code that the job was frozen from, made unless it is here; NoCode when the
    files are others by now. A job that is not frozen has the code of its work dir."""
    spec = jobdir.read_document(files.spec) or {}
    tree_hash = str(spec.get("tree"))
    path = cached(jobdir.home_of(files.directory), tree_hash)
    if os.path.exists(path):
        return path
    about = storing.about(Place(str(spec["workdir"])))
    for root, paths in _sources(files, spec):
        with staged(path) as packed:
            if archive.write(packed, root, paths, (), about).tree == tree_hash:
                keep(packed, path)
                return path
    raise NoCode("the code of {} is not here as it was".format(files.id))


def find(code: Dict[str, Any]) -> str:
    """The archive of `tree`, whole, from here or from the store of `project` (`store`, `drive_dir`,
    `api_url`, as for checkpoints); NoCode when neither has it."""
    path = cached(os.path.expanduser("~"), code["tree"])
    if is_whole(path, str(code["tree"])):
        return path
    why = "there is no Drive"
    if code.get("drive_dir") or code.get("store") == manifest.DRIVEAPI:
        why = _bring(code, path)
        if not why:
            return path
    raise NoCode(
        "the runtime has not the code {}, and cannot get it: {}".format(code["tree"][:12], why)
    )


def is_whole(path: str, tree_hash: str) -> bool:
    """Whether there is the archive of that tree, and all of it as it was."""
    try:
        with open(path, "rb") as file:
            packed = Archive(file)
            packed.verify()
            return packed.summary.tree == tree_hash
    except (OSError, Broken):
        return False


def put(store: Store, project: str, tree_hash: str, path: str, told: Told) -> None:
    """See that the store has the archive of that tree, which lies at `path`."""
    folder = _folder(project)
    with tempfile.TemporaryFile() as packed:
        if _copy_whole(store, project, tree_hash, packed, told):
            return
    names = store.names(folder)
    free = (tree_hash + ("-{}".format(n) if n > 1 else "") + SUFFIX for n in itertools.count(1))
    name = next(name for name in free if name not in names)
    store.put("{}/{}".format(folder, name), path, manifest.digests(path), told)


def unpack(path: str, to: str) -> None:
    """The files and links of the archive, each proved, in the directory `to`."""
    with open(path, "rb") as file:
        packed = Archive(file)
        for entry in packed.entries:
            target = os.path.join(to, *entry.path.split("/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            content = packed.content(entry)
            if entry.kind == tree.LINK:
                os.symlink(b"".join(content), os.fsencode(target))
                continue
            with open(target, "xb") as out:
                for piece in content:
                    out.write(piece)
            os.chmod(target, 0o755 if entry.executable else 0o644)
            os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))


def furnish(workdir: str, tree_hash: str, without: Iterable[str], files: JobFiles) -> None:
    """Do for an unpacked code directory what `frozen.freeze` does for a copied one."""
    code = os.path.join(files.code, tree_hash)
    copies = {path: frozen.look(os.path.join(code, path)) for path in _files_below(code)}
    frozen.furnish(workdir, tree_hash, copies, {*without, *copies}, files)


def _bring(code: Dict[str, Any], path: str) -> str:
    """Have it copied from the store by a process that may hang; why not, "" when it is here now."""
    store = open_named(
        str(code.get("store") or manifest.DRIVEFS),
        code.get("drive_dir"),
        str(code.get("api_url") or API_URL),
    )

    def work() -> Dict[str, Any]:
        try:
            with staged(path) as packed:
                project = drive.check_part(code["project"])
                if _copy_whole(store, project, str(code["tree"]), packed, lambda done: None):
                    keep(packed, path)
                    return {}
        except StoreError as exc:
            return {"problem": str(exc)}
        return {"problem": "it is not on Drive"}

    child = Child(work, drive.explain)
    if not child.has_ended(_STORE_TIMEOUT_S):
        child.kill()
        return "Drive does not answer"
    return str(child.result({"problem": "it was interrupted"}).get("problem", ""))


def _copy_whole(store: Store, project: str, tree_hash: str, packed: BinaryIO, told: Told) -> bool:
    """Copy the archive of that tree from the store; whether it has one that is whole."""
    folder = _folder(project)
    named = re.compile(re.escape(tree_hash) + r"(-[0-9]+)?( \([0-9]+\))?" + re.escape(SUFFIX))
    for name in filter(named.fullmatch, store.names(folder)):
        packed.seek(0)
        packed.truncate()
        for piece in store.fetch("{}/{}".format(folder, name)):
            told(packed.write(piece))
        packed.flush()
        with contextlib.suppress(Broken):
            found = Archive(packed)
            found.verify()
            if found.summary.tree == tree_hash:
                return True
    return False


def _folder(project: str) -> str:
    """Where a store keeps the archives of a project."""
    return "{}/code".format(project)


def _sources(files: JobFiles, spec: Dict[str, Any]) -> Iterator[Tuple[str, List[str]]]:
    """Where the files may be as the job began with them: beside the job, and in its work dir."""
    workdir = str(spec["workdir"])
    listed = jobdir.read_document(files.code_list)
    if listed is not None:
        paths = list(listed["copies"])
        yield os.path.join(files.code, str(listed["tree_hash"])), paths
        yield workdir, paths
        return
    limit = spec.get("max_bytes")
    directory = WorkDir(workdir)
    view = View(directory.ledger.rules(None), tree.Limits(limit, limit))
    yield workdir, list(directory.survey(view).fingerprints)


def _files_below(code: str) -> Iterator[str]:
    """The paths of what lies there, links to folders too."""
    for folder, folders, names in os.walk(code):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*links, *names]:
            yield os.path.relpath(os.path.join(folder, name), code)


@contextlib.contextmanager
def staged(path: str) -> Iterator[BinaryIO]:
    """A file beside `path` for what may become it (`keep`); gone when it did not."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_STAGING, dir=folder)
    os.close(handle)
    try:
        with open(name, "w+b") as packed:
            yield packed
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def keep(packed: BinaryIO, path: str) -> None:
    """It is whole: have it under that name."""
    packed.flush()
    os.replace(packed.name, path)
    _forget_oldest(os.path.dirname(path))


def _forget_oldest(folder: str) -> None:
    def age(name: str) -> float:
        try:
            return os.stat(os.path.join(folder, name)).st_mtime
        except OSError:
            return 0.0

    for name in sorted(os.listdir(folder), key=age)[:-_KEPT]:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))
