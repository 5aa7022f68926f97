"""The requests about ngrok's tunnel to this machine: having it, and being rid of it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from typing import Any, Dict, Iterator, Optional, Tuple

from . import daemons, processes, tunnels
from .ngrok_files import REFUSED, Place, name_of

Answer = Tuple[Dict[str, Any], bytes]

_STDIN = 0
_LOOK_S = 0.2
_REVIVE_S = 1.0
_END_S = 5.0


def hold(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Have that tunnel, and tell how it stands, at once and when that changes: `{"state"}`, as
    `ngrok_daemon.Supervisor` says it.

    Arguments: `asked`, see there; the body is its secret, which the supervisor gets by its stdin and
    which is nowhere else, so that one that was killed gets it again from here. A tunnel that was asked
    for otherwise ends. Whoever asks anew has what was refused tried again. Ends when stdin has something
    for us.
    """
    place, asked = Place(os.path.expanduser("~")), dict(arguments["asked"])
    name = name_of(asked)
    tunnels.close_others("ngrok")
    os.makedirs(place.directory, mode=0o700, exist_ok=True)
    if _of_another(place, name):
        _end(place)
    if not daemons.is_held(place.lock):
        _start(place, asked, body)
    said: Optional[Dict[str, Any]] = None
    started = time.monotonic()
    while True:
        told = place.read()
        if told is not None and told.get("asked") == name and told != said:
            said = told
            yield {"state": told}, b""
        if _of_another(place, name):
            return  # Somebody asked for another one after us.
        is_refused = said is not None and said["state"] == REFUSED
        if (
            not is_refused
            and time.monotonic() - started > _REVIVE_S
            and not daemons.is_held(place.lock)
        ):
            started = time.monotonic()
            _start(place, asked, body)
        if select.select([_STDIN], [], [], _LOOK_S)[0]:
            return


def close() -> None:
    """End the tunnel, if there is one."""
    place = Place(os.path.expanduser("~"))
    _end(place)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place.state)


def _of_another(place: Place, name: str) -> bool:
    told = place.read()
    return told is not None and told.get("asked") != name and daemons.is_held(place.lock)


def _start(place: Place, asked: Dict[str, Any], secret: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place.state)  # Where one ended that was killed, it may say so no more.
    told = {"asked": asked, "secret": secret.decode("utf-8")}
    daemons.start(["ngrok"], place.log, json.dumps(told).encode("ascii") + b"\n")


def _end(place: Place) -> None:
    """Returns when the supervisor is gone, and its child with it."""
    told = place.read()
    if told is None:
        return
    process, boot = told.get("process"), str(told.get("boot"))
    processes.send(process, boot, signal.SIGTERM)
    deadline = time.monotonic() + _END_S
    while daemons.is_held(place.lock) and time.monotonic() < deadline:
        time.sleep(0.02)
    processes.send(process, boot, signal.SIGKILL)
