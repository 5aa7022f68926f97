"""Taking a checkpoint from a computer that has a verified copy: gone on with after a cut, proved, and
whole or not there."""

from __future__ import annotations

import os
import shutil
from typing import Any, Dict, List, Tuple

from . import manifest
from .manifest import BadManifest, Manifest
from .refusal import Refusal
from .restoring import put_in_place
from .sync import Upload

Answer = Tuple[Dict[str, Any], bytes]


def answer_received(arguments: Dict[str, Any], body: bytes) -> Answer:
    """How much is here of each file of the checkpoint whose manifest is the body, on its way to the
    folder `to`: `{"sizes"}`, in the manifest's order."""
    whole, staging = _staging(arguments, body)
    return {"sizes": [_size(path) for path in _paths(whole, staging)]}, b""


def receive(arguments: Dict[str, Any], upload: Upload) -> Answer:
    """Take what is missing, and put the checkpoint into `to` under its trainer's name: `{"path"}`, or
    `{"problem"}` when it is not what its manifest says, and then nothing of it stays.

    The first frame's body is the manifest; then `{"number", "offset"}` with a piece of that file each,
    and `{"end"}`.
    """
    _, content = upload.next_frame()
    whole, staging = _staging(arguments, content)
    paths = _paths(whole, staging)
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    while True:
        header, piece = upload.next_frame()
        if header.get("end"):
            break
        with open(paths[int(header["number"])], "r+b") as file:
            # Whoever writes here writes the same bytes at the same places.
            file.seek(int(header["offset"]))
            file.write(piece)
    problem = manifest.damage(staging, whole)
    if problem is not None:
        shutil.rmtree(staging, ignore_errors=True)
        return {"problem": problem}, b""
    for path in paths:
        with open(path, "r+b") as file:
            os.fsync(file.fileno())
    placed = put_in_place(whole, staging, str(arguments["to"]))
    shutil.rmtree(staging, ignore_errors=True)
    return {"path": placed}, b""


def _staging(arguments: Dict[str, Any], content: bytes) -> Tuple[Manifest, str]:
    try:
        whole = manifest.parse(content)
    except BadManifest as exc:
        raise Refusal("cannot take that checkpoint: {}".format(exc)) from exc
    return whole, os.path.join(str(arguments["to"]), ".receiving-" + whole.sha256[:16])


def _paths(whole: Manifest, staging: str) -> List[str]:
    return [os.path.join(staging, *entry.path.split("/")) for entry in whole.files]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
