"""The code that jobs are frozen from, as archives: packed once, kept on the machine, started from again.

~/.cache/colabdev/code/<tree hash>.zip      in the format of `archive`, and proved whenever it is taken
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, Tuple

from . import archive, drive, frozen, jobdir, jobs, manifest, storing, tree
from .archive import Archive, Broken
from .daemons import Child
from .drive_http import API_URL
from .jobdir import JobFiles
from .mirror_files import Place
from .opening import open_named
from .refusal import NoCode, Refusal
from .stores import Store, StoreError
from .sync import Upload
from .workdir import View, WorkDir

Answer = Tuple[Dict[str, Any], bytes]

SUFFIX = ".zip"
_KEPT = 20
_STAGING = ".staging-"
_SENT_BYTES = 256 * 1024
_STORE_TIMEOUT_S = 300.0


def cached(home: str, tree_hash: object) -> str:
    """Where a machine keeps the archive of that tree, if it does."""
    folder = os.path.join(home, ".cache", tree.OURS[1:], "code")
    return os.path.join(folder, drive.check_part(tree_hash) + SUFFIX)


def pack(files: JobFiles) -> str:
    """The archive of the code that the job was frozen from, made unless it is here; NoCode when the files
    are others by now. A job that is not frozen has the code of its work dir."""
    spec = jobdir.read_document(files.spec) or {}
    tree_hash = str(spec.get("tree"))
    path = cached(jobdir.home_of(files.directory), tree_hash)
    if os.path.exists(path):
        return path
    about = storing.about(Place(str(spec["workdir"])))
    for root, paths in _sources(files, spec):
        with _staged(path) as packed:
            if archive.write(packed, root, paths, (), about).tree == tree_hash:
                _keep(packed, path)
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


def whole_in(store: Store, project: str, tree_hash: str, packed: BinaryIO) -> bool:
    """Copy the archive of that tree from a store, when it has one that is whole."""
    folder = "{}/code".format(project)
    stem, names = drive.check_part(tree_hash), store.names(folder)
    for name in names:
        if not (name.startswith(stem) and name.endswith(SUFFIX)):
            continue
        with suppress(Broken, StoreError):
            packed.seek(0)
            packed.truncate()
            for piece in store.fetch("{}/{}".format(folder, name)):
                packed.write(piece)
            packed.flush()
            found = Archive(packed)
            found.verify()
            if found.summary.tree == tree_hash:
                return True
    return False


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


# --- requests -----------------------------------------------------------------------------------


def send(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """The frozen code of the job `id`: `{"size", "tree"}`, its archive in pieces, `{"end"}`."""
    files = jobs.existing(arguments["id"])
    path = pack(files)
    with open(path, "rb") as file:
        name = os.path.basename(path)[: -len(SUFFIX)]
        yield {"size": os.fstat(file.fileno()).st_size, "tree": name}, b""
        for piece in drive.pieces(file, _SENT_BYTES):
            yield {}, piece
    yield {"end": True}, b""


def receive(arguments: Dict[str, Any], upload: Upload) -> Answer:
    """Take the archive of `tree` in pieces until `{"end"}`, prove it and keep it: `{"tree"}`."""
    path = cached(os.path.expanduser("~"), arguments["tree"])
    with _staged(path) as packed:
        while True:
            header, piece = upload.next_frame()
            if header.get("end"):
                break
            packed.write(piece)
        packed.flush()
        if not is_whole(packed.name, str(arguments["tree"])):
            raise Refusal("cannot take the job's code: it is not what it should be")
        _keep(packed, path)
    return {"tree": arguments["tree"]}, b""


# --- within ---------------------------------------------------------------------------------------


def _bring(code: Dict[str, Any], path: str) -> str:
    """Have it copied from the store by a process that may hang; why not, "" when it is here now."""
    store = open_named(
        str(code.get("store") or manifest.DRIVEFS),
        code.get("drive_dir"),
        str(code.get("api_url") or API_URL),
    )

    def work() -> Dict[str, Any]:
        try:
            with _staged(path) as packed:
                project = drive.check_part(code["project"])
                if whole_in(store, project, str(code["tree"]), packed):
                    _keep(packed, path)
                    return {}
        except StoreError as exc:
            return {"problem": str(exc)}
        return {"problem": "it is not on Drive"}

    child = Child(work, drive.explain)
    if not child.has_ended(_STORE_TIMEOUT_S):
        child.kill()
        return "Drive does not answer"
    return str(child.result({"problem": "it was interrupted"}).get("problem", ""))


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


def _staged(path: str) -> "tempfile._TemporaryFileWrapper[bytes]":
    """A file beside `path` for what may become it; gone when nobody kept it."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return tempfile.NamedTemporaryFile("w+b", prefix=_STAGING, dir=folder)


def _keep(packed: "tempfile._TemporaryFileWrapper[bytes]", path: str) -> None:
    packed.flush()
    with suppress(FileNotFoundError):
        os.unlink(path)  # One that does not verify.
    with suppress(FileExistsError):
        os.link(packed.name, path)
    _forget_oldest(os.path.dirname(path))


def _forget_oldest(folder: str) -> None:
    def age(name: str) -> float:
        try:
            return os.stat(os.path.join(folder, name)).st_mtime
        except OSError:
            return 0.0

    for name in sorted(os.listdir(folder), key=age)[:-_KEPT]:
        with suppress(OSError):
            os.unlink(os.path.join(folder, name))
