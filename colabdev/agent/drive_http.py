"""The Drive API v3 by its requests: one connection, each request tried again while that makes sense."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from typing import Any, Dict, List, NamedTuple, Optional

from . import credentials
from .stores import StoreError, Told

API_URL = "https://www.googleapis.com"
FOLDER_TYPE = "application/vnd.google-apps.folder"
FIELDS = "id,name,size,md5Checksum,sha256Checksum,createdTime,mimeType"

_TIMEOUT_S = 60.0
_TRIES = 7
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 16.0
_BUSY_REASONS = ("userRateLimitExceeded", "rateLimitExceeded", "sharingRateLimitExceeded")
_FULL = "storageQuotaExceeded"

Document = Dict[str, Any]


class Reply(NamedTuple):
    """What the server answered."""

    status: int
    headers: Dict[str, str]
    body: bytes

    @property
    def document(self) -> Document:
        """The JSON object in it; StoreError when it is none."""
        try:
            found = json.loads(self.body.decode("utf-8"))
        except ValueError as exc:
            raise StoreError("Drive's answer makes no sense") from exc
        if not isinstance(found, dict):
            raise StoreError("Drive's answer makes no sense")
        return found


class DriveHttp:
    """Requests to the API at `url`, each with a token that is good now."""

    def __init__(self, url: str, told: Told = lambda done: None) -> None:
        self._url = urllib.parse.urlsplit(url or API_URL)
        self._connection: Optional[http.client.HTTPConnection] = None
        self._told = told

    def get(self, path: str, **query: str) -> Document:
        """A document; StoreError unless it is there."""
        reply = self.ask("GET", _with_query("/drive/v3/" + path, query))
        return _checked(reply).document

    def find(self, file_id: str) -> Optional[Document]:
        """A file's fields; None when Drive has none of that id, or does not show it."""
        path = _with_query("/drive/v3/files/" + file_id, {"fields": FIELDS})
        reply = self.ask("GET", path)
        return None if reply.status == 404 else _checked(reply).document

    def list(self, parent: str, name: Optional[str] = None) -> List[Document]:
        """What is in a folder, the oldest first; of several with one name all."""
        search = "{} in parents and trashed = false".format(_quoted(parent))
        if name is not None:
            search = "name = {} and {}".format(_quoted(name), search)
        found: List[Document] = []
        page: Dict[str, str] = {}
        while True:
            answer = self.get(
                "files",
                q=search,
                fields="nextPageToken,files({})".format(FIELDS),
                orderBy="createdTime",
                pageSize="1000",
                **page,
            )
            found.extend(answer.get("files") or [])
            if not answer.get("nextPageToken"):
                return found
            page = {"pageToken": str(answer["nextPageToken"])}

    def new_id(self) -> str:
        """An id that a file may be made with: asked for twice, it is made once."""
        answer = self.get("files/generateIds", count="1", fields="ids")
        return str(answer["ids"][0])

    def make_folder(self, file_id: str, name: str, parent: str) -> None:
        """Make a folder of that id; harmless when it is there."""
        made = {"id": file_id, "name": name, "parents": [parent], "mimeType": FOLDER_TYPE}
        reply = self.ask("POST", "/drive/v3/files", json.dumps(made).encode("ascii"))
        if reply.status != 409:
            _checked(reply)

    def delete(self, file_id: str) -> None:
        """For good; harmless when it is not there."""
        reply = self.ask("DELETE", "/drive/v3/files/" + file_id)
        if reply.status != 404:
            _checked(reply)

    def begin_upload(self, made: Document, size: int) -> Optional[str]:
        """The address where the content goes; None when a file of that id is there already."""
        path = _with_query("/upload/drive/v3/files", {"uploadType": "resumable", "fields": FIELDS})
        headers = {"X-Upload-Content-Length": str(size)}
        reply = self.ask("POST", path, json.dumps(made).encode("ascii"), headers)
        if reply.status == 409:
            return None
        return _checked(reply).headers["location"]

    def download(self, file_id: str, first: int, last: int) -> bytes:
        """The bytes from `first` to `last` of a file, at most."""
        path = _with_query("/drive/v3/files/" + file_id, {"alt": "media"})
        headers = {"Range": "bytes={}-{}".format(first, last)}
        return _checked(self.ask("GET", path, headers=headers)).body

    def ask(
        self,
        method: str,
        path: str,
        body: Optional[bytes] = None,
        headers: Optional[Dict[str, str]] = None,
    ) -> Reply:
        """One request, tried again while Drive is busy or broken. StoreError when that does not end, and
        when Drive is full; every other status is the caller's to judge."""
        pause_s = _FIRST_PAUSE_S
        for number in range(_TRIES):
            if number:
                self._told(0)
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            try:
                reply = self._ask_once(method, path, body, headers or {})
            except (OSError, http.client.HTTPException) as exc:
                self._hang_up()
                problem = "cannot reach Drive: {}".format(type(exc).__name__)
                continue
            if _is_full(reply):
                raise StoreError("Drive is full", 60.0)
            if not _is_busy(reply):
                return reply
            problem = "Drive answers with {}".format(reply.status)
        raise StoreError(problem, _LONGEST_PAUSE_S)

    def _ask_once(
        self, method: str, path: str, body: Optional[bytes], headers: Dict[str, str]
    ) -> Reply:
        if self._connection is None:
            kind = http.client.HTTPSConnection
            if self._url.scheme == "http":
                kind = http.client.HTTPConnection  # type: ignore[assignment]
            assert self._url.hostname is not None, "the address of an API has a host"
            self._connection = kind(self._url.hostname, self._url.port, timeout=_TIMEOUT_S)
        sent = {"Authorization": "Bearer " + credentials.token(), **headers}
        if body is not None:
            sent.setdefault("Content-Type", "application/json; charset=UTF-8")
        self._connection.request(method, path, body, sent)
        answer = self._connection.getresponse()
        received = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, received, answer.read())

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def path_of(address: str) -> str:
    """The path and query of an address, which is at the API's own host."""
    parts = urllib.parse.urlsplit(address)
    return parts.path + "?" + parts.query


def _with_query(path: str, query: Dict[str, str]) -> str:
    return path + "?" + urllib.parse.urlencode(query)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _checked(reply: Reply) -> Reply:
    if reply.status == 401:
        raise StoreError("Drive does not take the token", 5.0)
    if not 200 <= reply.status < 300:
        raise StoreError("Drive answers with {} {}".format(reply.status, _reason(reply)).strip())
    return reply


def _reason(reply: Reply) -> str:
    try:
        return str(json.loads(reply.body.decode("utf-8"))["error"]["errors"][0]["reason"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


def _is_full(reply: Reply) -> bool:
    return reply.status == 403 and _reason(reply) == _FULL


def _is_busy(reply: Reply) -> bool:
    if reply.status == 403:
        return _reason(reply) in _BUSY_REASONS
    return reply.status in (408, 429) or reply.status >= 500
