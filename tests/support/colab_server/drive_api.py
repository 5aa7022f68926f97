"""The Drive API v3, as far as we use it: ids, resumable uploads, get, list, about, delete."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from aiohttp import web

from tests.support.colab_server.accounts import DRIVE_FILE_SCOPE, DRIVE_SCOPE, Grant
from tests.support.colab_server.drive_cloud import FILE_TYPE, FOLDER_TYPE, Cloud, DriveFile
from tests.support.colab_server.drive_fields import select
from tests.support.colab_server.drive_query import parse_query
from tests.support.colab_server.replies import break_connection, number
from tests.support.colab_server.world import World

CHUNK_MULTIPLE = 256 * 1024
READ_SCOPES = {f"{DRIVE_SCOPE}.readonly", f"{DRIVE_SCOPE}.metadata.readonly"}
_DEFAULT_FIELDS = "kind,id,name,mimeType"
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_REASONS = {401: "authError", 403: "userRateLimitExceeded", 404: "notFound"}


@dataclass(slots=True)
class Upload:
    """A resumable upload that is under way."""

    grant: Grant
    metadata: dict[str, Any]
    part: Path
    size: int | None
    mime_type: str
    query: dict[str, str]


class DriveApi:
    def __init__(self, world: World) -> None:
        self._world = world
        self._uploads: dict[str, Upload] = {}
        self._parts = world.state / "uploads"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/drive/v3/about", self.about),
            web.get("/drive/v3/files/generateIds", self.generate_ids),
            web.get("/drive/v3/files/{id}", self.get),
            web.get("/drive/v3/files", self.list),
            web.post("/drive/v3/files", self.create_folder),
            web.delete("/drive/v3/files/{id}", self.delete),
            web.post("/upload/drive/v3/files", self.start_upload),
            web.put("/upload/drive/v3/files", self.continue_upload),
        ]

    async def about(self, request: web.Request) -> web.Response:
        grant = self._grant(request)
        if "fields" not in request.query:
            fail(400, "The 'fields' parameter is required for this method.", "required")
        cloud = self._cloud(grant)
        document = {
            "kind": "drive#about",
            "user": {"kind": "drive#user", "emailAddress": grant.account.email, "me": True},
            "storageQuota": {
                "limit": str(self._world.facts.drive_quota_bytes),
                "usage": str(cloud.used_bytes()),
                "usageInDrive": str(cloud.used_bytes()),
                "usageInDriveTrash": str(
                    sum(file.size for file in list(cloud.files.values()) if file.trashed)
                ),
            },
        }
        return web.json_response(select(document, request.query["fields"]))

    async def generate_ids(self, request: web.Request) -> web.Response:
        cloud = self._cloud(self._grant(request))
        count = number(request.query.get("count", "10"))
        if count is None or not 1 <= count <= 1000:
            fail(400, "Invalid value for count", "invalid")
        ids = [cloud.generate_id() for _ in range(count)]
        document = {"kind": "drive#generatedIds", "space": "drive", "ids": ids}
        return web.json_response(select(document, request.query.get("fields", "*")))

    async def get(self, request: web.Request) -> web.StreamResponse:
        grant = self._grant(request)
        file = self._file(request, grant)
        if request.query.get("alt") == "media":
            if file.is_folder:
                fail(
                    403, "Only files with binary content can be downloaded.", "fileNotDownloadable"
                )
            return web.FileResponse(self._cloud(grant).blob(file.id))
        fields = request.query.get("fields", _DEFAULT_FIELDS)
        return web.json_response(select(describe(file), fields))

    async def list(self, request: web.Request) -> web.Response:
        grant, query = self._grant(request), request.query
        cloud = self._cloud(grant)
        matches = parse_query(query.get("q", ""), cloud)
        if matches is None:
            fail(400, f"Invalid Value: {query.get('q')}", "invalid")
        before = self._world.clock.now() - self._world.facts.drive_list_lag_s
        found = [
            file
            for file in list(cloud.files.values())
            if file.created <= before and _is_visible(file, grant) and matches(file)
        ]
        found.sort(key=lambda file: file.created, reverse="desc" in query.get("orderBy", ""))
        start, size = number(query.get("pageToken", "0")), number(query.get("pageSize", "100"))
        if start is None or size is None or not 1 <= size <= 1000:
            fail(400, "Invalid Value", "invalid")
        document: dict[str, Any] = {
            "kind": "drive#fileList",
            "incompleteSearch": False,
            "files": [describe(file) for file in found[start : start + size]],
        }
        if start + size < len(found):
            document["nextPageToken"] = str(start + size)
        default = f"kind,incompleteSearch,nextPageToken,files({_DEFAULT_FIELDS})"
        return web.json_response(select(document, query.get("fields", default)))

    async def create_folder(self, request: web.Request) -> web.Response:
        grant = self._writing_grant(request)
        metadata = await request.json()
        if metadata.get("mimeType") != FOLDER_TYPE:
            fail(501, "the stand-in makes files by resumable uploads only", "notImplemented")
        self._check_new(grant, metadata)
        made = self._create(grant, metadata, None, FOLDER_TYPE)
        fields = request.query.get("fields", _DEFAULT_FIELDS)
        return web.json_response(select(describe(made), fields))

    async def delete(self, request: web.Request) -> web.Response:
        grant = self._writing_grant(request)
        self._cloud(grant).delete(self._file(request, grant).id)
        return web.Response(status=204)

    async def start_upload(self, request: web.Request) -> web.Response:
        grant = self._writing_grant(request)
        if request.query.get("uploadType") != "resumable":
            fail(501, "the stand-in takes resumable uploads only", "notImplemented")
        try:
            metadata = json.loads(await request.text() or "{}")
        except ValueError:
            fail(400, "Parse Error", "parseError")
        self._check_new(grant, metadata)
        size = number(request.headers.get("X-Upload-Content-Length"))
        self._check_quota(grant, size or 0)
        self._parts.mkdir(exist_ok=True)
        upload_id = secrets.token_urlsafe(16)
        upload = Upload(
            grant=grant,
            metadata=metadata,
            part=self._parts / upload_id,
            size=size,
            mime_type=request.headers.get("X-Upload-Content-Type", FILE_TYPE),
            query=dict(request.query),
        )
        upload.part.touch()
        self._uploads[upload_id] = upload
        # As the client knows us: over TLS, unless it knows that we are on loopback.
        scheme = "http" if request.url.host == "127.0.0.1" else "https"
        place = request.url.with_scheme(scheme).with_query(
            {"uploadType": "resumable", "upload_id": upload_id}
        )
        return web.Response(headers={"Location": str(place), "X-GUploader-UploadID": upload_id})

    async def continue_upload(self, request: web.Request) -> web.Response:
        """A chunk, or with `bytes */…` the question how much has arrived."""
        self._disturb()
        # The session's address is itself what proves that one may write; a token may have expired.
        upload = self._uploads.get(request.query.get("upload_id", ""))
        if upload is None:
            fail(404, "Upload session not found", "notFound")
        body = await request.read()
        asked = _CONTENT_RANGE.fullmatch(
            request.headers.get("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}")
        )
        if asked is None:
            fail(400, "Invalid Content-Range", "badRequest")
        first, _, total = asked.groups()
        if total != "*":
            upload.size = int(total)
        if first is not None:
            self._take_chunk(request, upload, int(first), body)
        arrived = upload.part.stat().st_size
        if upload.size is None or arrived < upload.size:
            headers = {"Range": f"bytes=0-{arrived - 1}"} if arrived else {}
            return web.Response(status=308, reason="Resume Incomplete", headers=headers)
        return await self._finish(request, upload)

    def _take_chunk(self, request: web.Request, upload: Upload, first: int, body: bytes) -> None:
        arrived = upload.part.stat().st_size
        is_last = upload.size is not None and first + len(body) == upload.size
        if first > arrived or (not is_last and len(body) % CHUNK_MULTIPLE):
            fail(400, "Failed to parse Content-Range header.", "badRequest")
        broken: int | None = self._world.faults.take("drive_breaks_upload")
        # What it has already is skipped, as after a reply that was lost.
        fresh = body[arrived - first :]
        if broken is not None:
            fresh = fresh[: len(fresh) // 2 // CHUNK_MULTIPLE * CHUNK_MULTIPLE]
        with upload.part.open("ab") as file:
            file.write(fresh)
        self._world.journal.count("drive chunk")
        if broken == 0:
            break_connection(request)
        if broken is not None:
            fail(broken, "broken on purpose", "backendError")

    async def _finish(self, request: web.Request, upload: Upload) -> web.Response:
        del self._uploads[request.query["upload_id"]]
        self._check_quota(upload.grant, upload.size or 0)
        made = await asyncio.to_thread(
            self._create, upload.grant, upload.metadata, upload.part, upload.mime_type
        )
        upload.part.unlink()
        fields = upload.query.get("fields", _DEFAULT_FIELDS)
        return web.json_response(select(describe(made), fields))

    def _create(
        self, grant: Grant, metadata: dict[str, Any], content: Path | None, mime_type: str
    ) -> DriveFile:
        return self._cloud(grant).add(
            metadata.get("name", "Untitled"),
            (metadata.get("parents") or ["root"])[0],
            grant.client_id,
            content=content,
            file_id=metadata.get("id"),
            mime_type=metadata.get("mimeType", mime_type),
            app_properties=metadata.get("appProperties"),
        )

    def _check_new(self, grant: Grant, metadata: dict[str, Any]) -> None:
        cloud = self._cloud(grant)
        wanted = metadata.get("id")
        if wanted in cloud.files:
            fail(409, "A file already exists with the provided ID.", "fileIdInUse")
        if wanted is not None and wanted not in cloud.promised:
            fail(400, "The provided file ID is not usable.", "invalid")
        for parent in metadata.get("parents") or ():
            known = cloud.resolve(parent)
            if known != cloud.root and known not in cloud.files:
                fail(404, f"File not found: {parent}.", "notFound")

    def _check_quota(self, grant: Grant, size: int) -> None:
        used = self._cloud(grant).used_bytes()
        full = used + size > self._world.facts.drive_quota_bytes
        if full or self._world.faults.take("drive_quota"):
            fail(403, "The user's Drive storage quota has been exceeded.", "storageQuotaExceeded")

    def _file(self, request: web.Request, grant: Grant) -> DriveFile:
        wanted = request.match_info["id"]
        file = self._cloud(grant).files.get(wanted)
        if file is None or not _is_visible(file, grant):
            fail(404, f"File not found: {wanted}.", "notFound")
        return file

    def _cloud(self, grant: Grant) -> Cloud:
        return self._world.clouds.of(grant.account.email)

    def _writing_grant(self, request: web.Request) -> Grant:
        grant = self._grant(request)
        if not {DRIVE_SCOPE, DRIVE_FILE_SCOPE} & grant.scopes:
            fail(403, "Request had insufficient authentication scopes.", "insufficientPermissions")
        return grant

    def _grant(self, request: web.Request) -> Grant:
        resource = request.match_info.route.resource
        place = request.path if resource is None else resource.canonical
        self._world.journal.count(f"{request.method} {place}")
        self._disturb()
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        grant = self._world.accounts.access(token)
        if grant is None:
            fail(401, "Invalid Credentials", "authError")
        if not ({DRIVE_SCOPE, DRIVE_FILE_SCOPE} | READ_SCOPES) & grant.scopes:
            fail(403, "Request had insufficient authentication scopes.", "insufficientPermissions")
        return grant

    def _disturb(self) -> None:
        if (status := self._world.faults.take("drive_status")) is not None:
            fail(status, "broken on purpose", _REASONS.get(status, "backendError"))


def describe(file: DriveFile) -> dict[str, Any]:
    """All fields of the resource."""
    document: dict[str, Any] = {
        "kind": "drive#file",
        "id": file.id,
        "name": file.name,
        "mimeType": file.mime_type,
        "parents": [file.parent],
        "createdTime": _format_time(file.created),
        "modifiedTime": _format_time(file.modified),
        "trashed": file.trashed,
        "version": str(file.version),
        "appProperties": file.app_properties,
    }
    if not file.is_folder:
        document |= {
            "size": str(file.size),
            "md5Checksum": file.md5,
            "sha1Checksum": file.sha1,
            "sha256Checksum": file.sha256,
            "headRevisionId": f"{file.id}-{file.version}",
        }
    return document


def fail(status: int, message: str, reason: str) -> NoReturn:
    """End the request with an error as Google's APIs write them."""
    error = {
        "code": status,
        "message": message,
        "errors": [{"domain": "global", "reason": reason, "message": message}],
    }
    raise ApiError(status, json.dumps({"error": error}))


class ApiError(web.HTTPException):
    def __init__(self, status: int, text: str) -> None:
        self.status_code = status
        super().__init__(text=text, content_type="application/json")


def _is_visible(file: DriveFile, grant: Grant) -> bool:
    """`drive.file` alone shows what the same OAuth client made."""
    wide = ({DRIVE_SCOPE} | READ_SCOPES) & grant.scopes
    return bool(wide) or file.client == grant.client_id


def _format_time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
