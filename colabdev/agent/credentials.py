"""What lets a runtime into the user's Drive: a short token that the user's computer sends again and
again, or, when that may be switched off, what to get one with. In memory only: a file that only we may
read, on a file system that is no disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.parse
import urllib.request
from contextlib import suppress
from typing import Any, Dict, Optional, Tuple

from . import jobdir
from .refusal import Refusal
from .store_folder import mounted_as
from .stores import StoreError

Answer = Tuple[Dict[str, Any], bytes]

_MEMORY = ("/dev/shm", "/run/shm")
_MEMORY_KINDS = ("tmpfs", "ramfs")
_MARGIN_S = 60.0
_WANTED_S = 900.0
_TIMEOUT_S = 30.0

READING = frozenset(
    "https://www.googleapis.com/auth/" + name
    for name in ("drive", "drive.readonly", "drive.metadata", "drive.metadata.readonly")
)
"""With one of these also what others put on Drive can be seen."""


def place() -> str:
    """The file; a Refusal where this machine has no memory that looks like a directory."""
    folder = os.environ.get("COLABDEV_MEMORY_DIR")
    if folder is None:
        for folder in _MEMORY:
            if mounted_as(folder) in _MEMORY_KINDS and os.access(folder, os.W_OK):
                break
        else:
            raise Refusal("cannot keep a token: the runtime has no directory in memory")
    # Several machines may share that memory: the sandboxes of one computer do.
    home = hashlib.sha256(os.fsencode(os.path.expanduser("~"))).hexdigest()[:16]
    return os.path.join(folder, "colabdev-{}".format(os.getuid()), home + ".json")


def answer_token(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Keep `access_token` (`expires`, seconds since 1970; `scopes`), and `refresh` if there is one; or
    `problem`, why there is none."""
    path = place()
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    seen = os.lstat(folder)
    if seen.st_uid != os.getuid() or os.path.islink(folder) or seen.st_mode & 0o077:
        raise Refusal("cannot keep a token: {} is somebody else's".format(folder))
    kept = {
        "access_token": str(arguments.get("access_token") or ""),
        "expires": float(arguments.get("expires") or 0),
        "problem": str(arguments.get("problem") or ""),
        "scopes": [str(one) for one in arguments.get("scopes") or []],
        "refresh": arguments.get("refresh"),
    }
    jobdir.write_document(path, kept)
    return {"kept": True}, b""


def forget() -> None:
    """Nobody here needs it any more."""
    with suppress(OSError, Refusal):
        os.unlink(place())


def state(unattended: bool = False) -> Dict[str, Any]:
    """`expires` of what we have, 0 for nothing, and whether a new one is `wanted` soon; `unattended`:
    with what to get others by ourselves."""
    kept = _read()
    expires = float(kept["expires"]) if kept else 0.0
    can_refresh = bool(kept and kept.get("refresh"))
    ends_soon = expires < time.time() + _WANTED_S
    wanted = not can_refresh and (unattended or ends_soon)
    return {"expires": expires, "wanted": wanted, "unattended": unattended}


def token() -> str:
    """One that is good now; StoreError when there is none."""
    kept = _read()
    if kept and float(kept["expires"]) > time.time() + _MARGIN_S:
        return str(kept["access_token"])
    if kept and kept.get("refresh"):
        return _renewed(kept)
    why = (kept or {}).get("problem") or "the user's computer sends one when it is on"
    raise StoreError("the runtime has no token for Drive: {}".format(why), 2.0)


def sees_all() -> bool:
    """Whether the token shows also what others put on Drive."""
    kept = _read()
    return bool(kept and READING.intersection(kept["scopes"]))


def _renewed(kept: Dict[str, Any]) -> str:
    refresh = kept["refresh"]
    form = {
        "grant_type": "refresh_token",
        "refresh_token": refresh["token"],
        "client_id": refresh["client_id"],
        "client_secret": refresh["client_secret"],
        "scope": " ".join(kept["scopes"]),
    }
    data = urllib.parse.urlencode(form).encode("ascii")
    try:
        with urllib.request.urlopen(refresh["url"], data, timeout=_TIMEOUT_S) as answer:
            told = json.loads(answer.read().decode("utf-8"))
        kept["access_token"] = str(told["access_token"])
        kept["expires"] = time.time() + float(told["expires_in"])
    except (OSError, ValueError, KeyError) as exc:
        # Never the exception's own words: they may hold what was sent.
        kind = type(exc).__name__
        raise StoreError("Google gives no new token ({})".format(kind), 30.0) from None
    jobdir.write_document(place(), kept)
    return str(kept["access_token"])


def _read() -> Optional[Dict[str, Any]]:
    try:
        return jobdir.read_document(place())
    except (OSError, jobdir.Unreadable, Refusal):
        return None
