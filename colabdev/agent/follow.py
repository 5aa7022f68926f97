"""Sending a log as it grows, the moment it does: inotify on Linux, a look every 50 ms elsewhere."""

from __future__ import annotations

import ctypes
import os
import select
import sys
import time
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from . import endings, jobdir
from .jobdir import JobFiles

Answer = Tuple[Dict[str, Any], bytes]

_CHUNK_BYTES = 256 * 1024
_LOOK_S = 1.0
_POLL_S = 0.05
_STDIN = 0

IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
_IN_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)


def frames(
    files: JobFiles,
    offset: int,
    describe: Callable[[JobFiles], Dict[str, Any]],
    wait: bool,
) -> Iterator[Answer]:
    """`{"offset"}` with the bytes of the log from there, and at last `{"status"}`. In between
    `{"note": "disk_full"}`, once, when there is no room for what the job writes.

    With `wait` the last frame comes once the job has ended and all of its log was sent; without, once
    all that stands there now was sent. Ends without a status when stdin has something for us: the
    client is gone, or asks for something else.
    """
    log = os.open(files.log, os.O_RDONLY)
    watch = Watch((files.log, IN_MODIFY), (files.directory, IN_MOVED_TO))
    try:
        status = describe(files)
        next_look = time.monotonic() + _LOOK_S
        is_noted = False
        while True:
            ended = status["state"] in jobdir.ENDED_STATES
            limit = status["log_bytes"] if ended or not wait else sys.maxsize
            while offset < limit:
                data = os.pread(log, min(_CHUNK_BYTES, limit - offset), offset)
                if not data:
                    break
                yield {"offset": offset}, data
                offset += len(data)
            if ended or not wait:
                yield {"status": status}, b""
                return
            if not watch.wait(max(next_look - time.monotonic(), 0)):
                return
            # A job whose supervisor was killed ends without a sound: somebody has to look.
            if os.path.exists(files.status) or time.monotonic() >= next_look:
                status = describe(files)
                next_look = time.monotonic() + _LOOK_S
                if not is_noted and endings.is_full(files.directory):
                    is_noted = True
                    yield {"note": jobdir.DISK_FULL}, b""
    finally:
        watch.close()
        os.close(log)


class Watch:
    """Tells when one of the paths changes so, or when stdin can be read."""

    def __init__(self, *watches: Tuple[str, int]) -> None:
        self._inotify = _open_inotify(*watches)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a change, at most that long; False when stdin has something for us."""
        if self._inotify is None:
            ready, _, _ = select.select([_STDIN], [], [], min(timeout_s, _POLL_S))
            return not ready
        ready, _, _ = select.select([_STDIN, self._inotify], [], [], timeout_s)
        if self._inotify in ready:
            os.read(self._inotify, 65536)
        return _STDIN not in ready

    def close(self) -> None:
        if self._inotify is not None:
            os.close(self._inotify)


def _open_inotify(*watches: Tuple[str, int]) -> Optional[int]:
    """A descriptor that can be read when one of the paths changes; None where there is no inotify."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        return None
    inotify = int(libc.inotify_init1(_IN_NONBLOCK_CLOEXEC))
    if inotify < 0:
        return None
    for path, events in watches:
        if libc.inotify_add_watch(inotify, os.fsencode(path), ctypes.c_uint32(events)) < 0:
            os.close(inotify)
            return None
    return inotify
