"""Drive by its API, with the user's own OAuth client: what an upload is answered with is the proof.

Every file and folder is made with an id that was asked for and written down before, so a request that
is repeated makes nothing twice; an upload that was cut goes on at the byte that Drive says.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import Any, BinaryIO, Dict, Iterator, List, Optional

from . import drive, jobdir, manifest
from .drive_http import FOLDER_TYPE, Document, DriveHttp, Reply, path_of
from .manifest import MANIFEST, FileEntry
from .stores import PROVED, REFUTED, Proof, Receipt, SourceChanged, Store, StoreError, Told

CHUNK_BYTES = 8 * 1024 * 1024
"""A multiple of 256 KiB, as Drive wants it; so much is sent again after a cut."""

_LAG_S = 5.0
_ROOT = "root"
_RANGE = re.compile("bytes=0-([0-9]+)")
_TORN = "{} was begun before with another content"


class DriveApi(Store):
    """Files below `colabdev` in My Drive. `notes` is the file where ids are kept; "" for nowhere."""

    name = manifest.DRIVEAPI
    best = manifest.BEST[manifest.DRIVEAPI]

    def __init__(self, api_url: str, notes: str, told: Told = lambda done: None) -> None:
        self._http = DriveHttp(api_url, told)
        self._notes = _Notes(notes)

    def put(self, path: str, source: str, entry: FileEntry, told: Told) -> Receipt:
        folder, name = path.rsplit("/", 1)
        file_id = self._notes.file_id(path)
        if file_id is None:
            if self._in_folder(folder, name):
                raise StoreError("{} is there already".format(path))
            file_id = self._http.new_id()
            self._notes.keep(path, id=file_id)
        made = {"id": file_id, "name": name, "parents": [self._make_folder(folder)]}
        with open(source, "rb", buffering=0) as file:
            _check(file, entry, told)
            found = self._upload(path, made, file, entry, told)
        if not _has(found, entry):
            raise StoreError(_TORN.format(path))
        self._notes.keep(path, id=file_id, session=None)
        return {"id": file_id, "path": path}

    def look(self, receipt: Receipt, entry: FileEntry) -> Proof:
        return look_up(self._http, receipt, entry)

    def names(self, folder: str) -> List[str]:
        folder_id = self._find_folder(folder)
        if folder_id is None:
            return []
        return sorted({str(row["name"]) for row in self._http.list(folder_id)})

    def fetch(self, path: str, sha256: str = "") -> Iterator[bytes]:
        folder, name = path.rsplit("/", 1)
        found = self._in_folder(folder, name)
        if not found:
            raise StoreError("{} is not on Drive".format(path))
        chosen = [row for row in found if sha256 and row.get("sha256Checksum") == sha256] or found
        yield from self._download(chosen[-1], path)

    def recall(self, receipt: Receipt) -> Iterator[bytes]:
        found = self._http.find(str(receipt["id"]))
        if found is None:
            raise StoreError("{} is not on Drive".format(receipt.get("path")))
        yield from self._download(found, str(receipt.get("path")))

    def remove(self, path: str) -> None:
        folder, name = path.rsplit("/", 1)
        for row in self._in_folder(folder, name):
            if row.get("mimeType") == FOLDER_TYPE:
                for inner in self._http.list(str(row["id"]), MANIFEST):
                    self._http.delete(str(inner["id"]))
            self._http.delete(str(row["id"]))
        self._notes.forget(path)

    def lag_s(self) -> float:
        return _LAG_S

    def free_bytes(self) -> Optional[int]:
        quota = self._http.get("about", fields="storageQuota").get("storageQuota") or {}
        if "limit" not in quota:
            return None
        return int(quota["limit"]) - int(quota.get("usage", 0))

    def _download(self, found: Document, path: str) -> Iterator[bytes]:
        done, size = 0, int(found["size"])
        while done < size:
            last = min(done + CHUNK_BYTES, size) - 1
            piece = self._http.download(str(found["id"]), done, last)
            if not piece:
                raise StoreError("Drive ends {} after {} bytes".format(path, done))
            done += len(piece)
            yield piece

    def _upload(
        self, path: str, made: Document, file: BinaryIO, entry: FileEntry, told: Told
    ) -> Document:
        """What Drive says of the file once it has all of it, whoever sent it."""
        session = self._notes.session(path)
        arrived = self._arrived(session, entry) if session else None
        if arrived is None:
            session = self._http.begin_upload(made, entry.size)
            if session is None:
                return self._http.find(str(made["id"])) or {}
            self._notes.keep(path, id=made["id"], session=session)
            arrived = 0
        while True:
            if isinstance(arrived, dict):
                return arrived
            told(arrived)
            file.seek(arrived)
            piece = file.read(CHUNK_BYTES)
            arrived = self._send(str(session), piece, arrived, entry)

    def _send(self, session: str, piece: bytes, first: int, entry: FileEntry) -> "int | Document":
        """The file's fields when it is whole, else how many bytes Drive has of it."""
        if piece:
            span = "bytes {}-{}/{}".format(first, first + len(piece) - 1, entry.size)
        else:
            span = "bytes */{}".format(entry.size)
        headers = {"Content-Range": span, "Content-Type": "application/octet-stream"}
        reply = self._http.ask("PUT", path_of(session), piece, headers)
        told = _progress(reply)
        if told is None:
            raise StoreError("Drive has forgotten an upload ({})".format(reply.status))
        return told

    def _arrived(self, session: str, entry: FileEntry) -> "int | Document | None":
        """How far an upload of before came; None when Drive knows nothing of it any more."""
        headers = {"Content-Range": "bytes */{}".format(entry.size)}
        return _progress(self._http.ask("PUT", path_of(session), b"", headers))

    def _in_folder(self, folder: str, name: str) -> List[Document]:
        folder_id = self._find_folder(folder)
        return [] if folder_id is None else self._http.list(folder_id, name)

    def _find_folder(self, path: str) -> Optional[str]:
        """The id of a folder below our root; None when there is none."""
        parent, whole = _ROOT, ""
        for name in [drive.OURS, *path.split("/")]:
            whole = "{}/{}".format(whole, name)
            found = self._find_one(parent, name, whole)
            if found is None:
                return None
            parent = found
        return parent

    def _make_folder(self, path: str) -> str:
        parent, whole = _ROOT, ""
        for name in [drive.OURS, *path.split("/")]:
            whole = "{}/{}".format(whole, name)
            found = self._find_one(parent, name, whole)
            if found is None:
                found = self._notes.file_id(whole) or self._http.new_id()
                # Noted first: whoever comes after a kill makes the same and not a second one.
                self._notes.keep(whole, id=found)
                self._http.make_folder(found, name, parent)
                self._notes.keep(whole, made=True)
            parent = found
        return parent

    def _find_one(self, parent: str, name: str, whole: str) -> Optional[str]:
        """Of two folders with one name the older."""
        if self._notes.is_made(whole):
            return self._notes.file_id(whole)
        for row in self._http.list(parent, name):
            if row.get("mimeType") == FOLDER_TYPE:
                self._notes.keep(whole, id=row["id"], made=True)
                return str(row["id"])
        return None


def look_up(http: DriveHttp, receipt: Receipt, entry: FileEntry) -> Proof:
    """What Drive itself says of a file by its id."""
    found = http.find(str(receipt["id"]))
    if found is None:
        return Proof(REFUTED, "Drive has no such file")
    if not _has(found, entry):
        return Proof(REFUTED, "Drive has another content")
    return Proof(PROVED)


class _Notes:
    """Ids of files and folders by their paths, and the addresses of uploads that are under way."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows: Dict[str, Dict[str, Any]] = {}
        if path:
            with suppress(jobdir.Unreadable):
                self._rows = jobdir.read_document(path) or {}

    def file_id(self, path: str) -> Optional[str]:
        return self._rows.get(path, {}).get("id")

    def is_made(self, path: str) -> bool:
        """The folder was seen, and is not only about to be made."""
        return bool(self._rows.get(path, {}).get("made"))

    def session(self, path: str) -> Optional[str]:
        return self._rows.get(path, {}).get("session")

    def keep(self, path: str, **more: Any) -> None:
        self._rows[path] = {**self._rows.get(path, {}), **more}
        self._write()

    def forget(self, path: str) -> None:
        below = [one for one in self._rows if one == path or one.startswith(path + "/")]
        # Folders are noted from our root on, files below it.
        ours = "/{}/{}".format(drive.OURS, path)
        below += [one for one in self._rows if one == ours or one.startswith(ours + "/")]
        for one in below:
            del self._rows[one]
        self._write()

    def _write(self) -> None:
        if self._path:
            jobdir.write_document(self._path, self._rows, durable=True)


def _check(file: BinaryIO, entry: FileEntry, told: Told) -> None:
    """The source is what it should be; checked before a byte of it is sent."""
    digest, size = hashlib.sha256(), 0
    for piece in drive.pieces(file):
        digest.update(piece)
        size += len(piece)
        told(0)
    if (size, digest.hexdigest()) != (entry.size, entry.sha256):
        raise SourceChanged("{} changed on the runtime's disk".format(entry.path))


def _has(found: Document, entry: FileEntry) -> bool:
    """Drive's own hash of what it has is ours. A few files have no sha256 there."""
    if int(found.get("size", -1)) != entry.size:
        return False
    if found.get("sha256Checksum"):
        return bool(found["sha256Checksum"] == entry.sha256)
    return bool(entry.md5) and found.get("md5Checksum") == entry.md5


def _progress(reply: Reply) -> "int | Document | None":
    if reply.status in (200, 201):
        return reply.document
    if reply.status == 308:
        match = _RANGE.match(reply.headers.get("range", ""))
        return int(match.group(1)) + 1 if match else 0
    return None
