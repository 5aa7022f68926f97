"""Ctrl-C while it is meant for the job."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from colabdev.errors import ColabdevError

_PATIENCE_S = 1.0


@contextmanager
def passing_interrupts_on(
    send: Callable[[], None], progress: Callable[[str], None]
) -> Iterator[None]:
    """Inside, each Ctrl-C calls `send`, in a thread; one that comes while another has not got there for
    a second is a KeyboardInterrupt, so that nobody is held by a path that is cut."""
    pressed: queue.SimpleQueue[bool] = queue.SimpleQueue()
    unheard: deque[float] = deque()

    def press(number: int, frame: object) -> None:
        now = time.monotonic()
        if unheard and now - unheard[0] > _PATIENCE_S:
            raise KeyboardInterrupt
        unheard.append(now)
        pressed.put(True)

    def pass_on() -> None:
        while pressed.get():
            try:
                send()
            except ColabdevError as exc:
                progress(f"Ctrl-C did not reach the job: {exc.message}")
            unheard.popleft()

    # A daemon, for nobody waits for one that is held by such a path.
    threading.Thread(target=pass_on, daemon=True).start()
    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        pressed.put(False)
