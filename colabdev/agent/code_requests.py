"""The requests about the archive of a job's code: sending it home, and taking it from there."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, Tuple

from . import code_archives, drive, jobs
from .refusal import Refusal
from .sync import Upload

Answer = Tuple[Dict[str, Any], bytes]

_SENT_BYTES = 256 * 1024


def send(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """The frozen code of the job `id`: `{"size", "tree"}`, its archive in pieces, `{"end"}`."""
    files = jobs.existing(arguments["id"])
    path = code_archives.pack(files)
    with open(path, "rb") as file:
        name = os.path.basename(path)[: -len(code_archives.SUFFIX)]
        yield {"size": os.fstat(file.fileno()).st_size, "tree": name}, b""
        for piece in drive.pieces(file, _SENT_BYTES):
            yield {}, piece
    yield {"end": True}, b""


def receive(arguments: Dict[str, Any], upload: Upload) -> Answer:
    """Take the archive of `tree` in pieces until `{"end"}`, prove it and keep it: `{"tree"}`."""
    path = code_archives.cached(os.path.expanduser("~"), arguments["tree"])
    with code_archives.staged(path) as packed:
        while True:
            header, piece = upload.next_frame()
            if header.get("end"):
                break
            packed.write(piece)
        packed.flush()
        if not code_archives.is_whole(packed.name, str(arguments["tree"])):
            raise Refusal("cannot take the job's code: it is not what it should be")
        code_archives.keep(packed, path)
    return {"tree": arguments["tree"]}, b""
