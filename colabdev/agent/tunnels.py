"""The requests about the machine's tunnel: having it, and being rid of it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Dict, Iterator, Optional, Tuple

from . import processes
from .locks import is_held
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
    which is nowhere else, so that one that was killed gets it again from here. A tunnel that was asked
    for otherwise ends. Whoever asks anew has what was refused tried again. Ends when stdin has something
    for us.
    """
    place, asked = Place(os.path.expanduser("~")), dict(arguments["asked"])
    name = name_of(asked)
    have(place, asked, body, sys.argv[0])
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
        if not is_refused and time.monotonic() - started > _REVIVE_S and not is_held(place.lock):
            started = time.monotonic()
            have(place, asked, body, sys.argv[0])
        if select.select([_STDIN], [], [], _LOOK_S)[0]:
            return


def have(place: Place, asked: Dict[str, Any], secret: bytes, agent: str) -> None:
    """See that its supervisor runs, of that agent, instead of one that was asked for something else."""
    os.makedirs(place.directory, mode=0o700, exist_ok=True)
    if _of_another(place, name_of(asked)):
        _end(place)
    if not is_held(place.lock):
        _start(place, asked, secret, agent)


def close(arguments: Dict[str, Any], body: bytes) -> Answer:
    """End the tunnel, if there is one."""
    place = Place(os.path.expanduser("~"))
    _end(place)
    if os.path.exists(place.state):
        os.unlink(place.state)
    return {}, b""


def _of_another(place: Place, name: str) -> bool:
    told = place.read()
    return told is not None and told.get("asked") != name and is_held(place.lock)


def _start(place: Place, asked: Dict[str, Any], secret: bytes, agent: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place.state)  # Where one ended that was killed, it may say so no more.
    handle = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(handle, "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", agent, "tunnel"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
        )
    told = {"asked": asked, "secret": secret.decode("utf-8")}
    child.communicate(json.dumps(told).encode("ascii") + b"\n")  # It forks away at once.


def _end(place: Place) -> None:
    """Returns when the supervisor is gone, and its child with it."""
    told = place.read()
    if told is None:
        return
    process, boot = told.get("process"), str(told.get("boot"))
    processes.send(process, boot, signal.SIGTERM)
    deadline = time.monotonic() + _END_S
    while is_held(place.lock) and time.monotonic() < deadline:
        time.sleep(0.02)
    processes.send(process, boot, signal.SIGKILL)
    if told.get("kind") == "colab-ssh":
        importlib.import_module(".colab_ssh", __package__).mend()
