"""This process' stdin and stdout as one end of a stream, as a ProxyCommand's are."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Protocol

_CHUNK_BYTES = 64 * 1024


class Stream(Protocol):
    """Bytes both ways; either end may be the first to end."""

    def send(self, data: bytes) -> None: ...

    def read_some(self, count: int) -> bytes: ...

    def end_writing(self) -> None: ...

    def hang_up(self) -> None: ...

    def close(self) -> None: ...


def carry_stdio(stream: Stream) -> None:
    """Carry until the other end closes, or nobody takes our output any more."""
    if sys.platform != "win32":
        # With that OpenSSH ends a ProxyCommand.
        signal.signal(signal.SIGHUP, lambda *_: stream.hang_up())
    threading.Thread(target=_send_stdin, args=(stream,), daemon=True).start()
    with contextlib.suppress(OSError, ValueError):
        while data := stream.read_some(_CHUNK_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
    stream.close()


def _send_stdin(stream: Stream) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := os.read(0, _CHUNK_BYTES):
            stream.send(data)
    stream.end_writing()
