"""The requests about the machine's tunnel: having it, and being rid of it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
from typing import Any, Dict, Iterator, Tuple

from . import daemons, processes
from .tunnel_files import REFUSED, Place, name_of

Answer = Tuple[Dict[str, Any], bytes]

_STDIN = 0
_LOOK_S = 0.2
_REVIVE_S = 1.0
_END_S = 5.0


def hold(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Have that tunnel, and tell how it stands, at once and when that changes: `{"state"}`, as
    `tunnel.Supervisor` says it.

    Arguments: `asked`, see there; the body is its secret, which the supervisor gets by its stdin and
    which is nowhere else, so that one that was killed gets it again from here. Where it has one and we
    do not, only what runs is followed, and `{"needs_secret"}` is the last word. One that was asked for
    otherwise ends. Whoever asks anew has what was refused tried again. Ends when stdin has something
    for us.
    """
    place, asked = Place(os.path.expanduser("~")), dict(arguments["asked"])
    name = name_of(asked)
    end_another(place, name)
    said: Dict[str, Any] = {}
    due, started = time.monotonic(), False
    while not _of_another(place, name):  # Else somebody asked for that after us.
        # Looked at in this order, what one says that is gone was its last word.
        runs = daemons.is_held(place.lock)
        told = place.read() or {}
        if told.get("asked") == name and told != said and (runs or started):
            said = told
            yield {"state": told}, b""
        if not runs and said.get("state") != REFUSED and time.monotonic() >= due:
            if asked["has_secret"] and not body:
                yield {"needs_secret": True}, b""
                return
            start(place, asked, body, sys.argv[0])
            due, started = time.monotonic() + _REVIVE_S, True
        if select.select([_STDIN], [], [], _LOOK_S)[0]:
            return


def close(arguments: Dict[str, Any], body: bytes) -> Answer:
    """End the tunnel, if there is one."""
    place = Place(os.path.expanduser("~"))
    _end(place)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place.state)
    return {}, b""


def end_another(place: Place, name: str) -> None:
    """Make room for the tunnel of that name."""
    os.makedirs(place.directory, mode=0o700, exist_ok=True)
    if _of_another(place, name):
        _end(place)


def start(place: Place, asked: Dict[str, Any], secret: bytes, agent: str) -> None:
    """Start its supervisor, of that agent."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place.state)  # Where one ended that was killed, it may say so no more.
    told = {"asked": asked, "secret": secret.decode("utf-8")}
    daemons.start(["tunnel"], place.log, json.dumps(told).encode("ascii") + b"\n", agent)


def _of_another(place: Place, name: str) -> bool:
    told = place.read()
    return told is not None and told.get("asked") != name and daemons.is_held(place.lock)


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
    if told.get("kind") == "colab-ssh":
        importlib.import_module(".colab_ssh", __package__).mend()
