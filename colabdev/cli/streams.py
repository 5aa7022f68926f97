"""A job's bytes on stdout: exactly those, as they come, until nobody reads them any more; and our own
sentences beside them on stderr."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from colabdev.cli.output import OutputLost, drop, progress, say


class ReaderGone(KeyboardInterrupt):
    """Whoever read our stdout has closed it. Like Ctrl-C it may come at any moment."""


class Screen:
    """Stdout and stderr while a job writes; often they are the same terminal."""

    def __init__(self) -> None:
        self._is_raw = False
        self._in_line = False
        self._is_shared = sys.stdout.isatty() and sys.stderr.isatty()

    def write(self, pieces: Iterable[bytes]) -> None:
        """Each piece at once; ReaderGone when nobody takes it."""
        stdout = sys.stdout.buffer
        try:
            for piece in pieces:
                stdout.write(piece)
                stdout.flush()
                self._in_line = not piece.endswith(b"\n")
        except BrokenPipeError as exc:
            raise ReaderGone from exc
        except OSError as exc:
            drop(sys.stdout)
            raise OutputLost(
                f"cannot write the log here: {exc.strerror}; the job runs on",
                hint="make room, then colabdev logs -f goes on with it",
            ) from exc

    def progress(self, step: str) -> None:
        """A step that begins, on a line of its own, also behind a bar."""
        self.begin_line()
        progress(step + self._return())

    def begin_line(self) -> None:
        """Whatever the job wrote last, go on at the start of a line."""
        if self._in_line and self._is_shared:
            say(self._return())
        self._in_line = False

    @contextmanager
    def raw(self) -> Iterator[None]:
        """Inside, the terminal does not return its carriage by itself."""
        self._is_raw = True
        try:
            yield
        finally:
            self._is_raw = False

    def _return(self) -> str:
        return "\r" if self._is_raw and self._is_shared else ""


@contextmanager
def noticing_readers() -> Iterator[None]:
    """Inside, ReaderGone is raised as soon as the reader of our stdout goes, also while nothing is
    written; where the system cannot tell (Windows), with the next write."""
    if sys.platform == "win32" or not hasattr(select, "poll"):
        yield
        return
    before = signal.signal(signal.SIGUSR1, _raise_reader_gone)
    finished, finish = os.pipe()
    main = threading.main_thread().ident
    assert main is not None, "it runs"
    watcher = threading.Thread(target=_watch, args=(sys.stdout.fileno(), finished, main))
    watcher.start()
    try:
        yield
    except ReaderGone:
        drop(sys.stdout)
        raise
    finally:
        os.close(finish)
        watcher.join()
        os.close(finished)
        signal.signal(signal.SIGUSR1, before)


def _watch(stdout: int, finished: int, main: int) -> None:
    if sys.platform == "win32":
        return  # Said for the type checker; nobody watches there.
    poll = select.poll()
    poll.register(stdout, 0)  # An error is reported unasked: on a pipe, that its reader is gone.
    poll.register(finished, 0)
    for handle, event in poll.poll():
        if handle == stdout and event & (select.POLLERR | select.POLLHUP):
            signal.pthread_kill(main, signal.SIGUSR1)


def _raise_reader_gone(number: int, frame: object) -> None:
    raise ReaderGone
