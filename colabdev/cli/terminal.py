"""The terminal that we run in: what it is, and its size as that changes."""

from __future__ import annotations

import getpass
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

_USUAL_SIZE = (80, 24)
_PASSED_ON = ("COLORTERM", "NO_COLOR")
VARIABLES = frozenset({"TERM", *_PASSED_ON})
"""Those that a job has of its terminal, by their names."""
_LOOK_S = 1.0

Tell = Callable[[int, int], None]
"""Told columns and rows."""


def window() -> tuple[int, int] | None:
    """Columns and rows of the terminal that stdout is; None when it is none."""
    try:
        if not sys.stdout.isatty():
            return None
        size = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return None
    return size.columns or _USUAL_SIZE[0], size.lines or _USUAL_SIZE[1]


def has_keyboard() -> bool:
    """Whether stdin is a terminal."""
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:
        return False


def typed_line() -> str:
    """The next line that is typed; "" at the end of stdin."""
    return sys.stdin.readline().strip()


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What a program must know of the terminal that it writes to."""
    passed_on = {name: environment[name] for name in _PASSED_ON if name in environment}
    return {"TERM": environment.get("TERM") or "xterm-256color", **passed_on}


def ask_secret(name: str) -> str | None:
    """What is typed, unseen, when asked for that secret; None when nobody is at a terminal."""
    if not has_keyboard():
        return None
    try:
        return getpass.getpass(f"{name}: ")
    except EOFError:
        return None


@contextmanager
def watching_window(tell: Tell) -> Iterator[Callable[[], None]]:
    """Inside, `tell` hears of every new size, in a thread of its own. What is given tells it at once.

    By SIGWINCH where there is one; elsewhere (Windows) somebody looks once a second.
    """
    if sys.platform == "win32":
        yield from _looking_at_window(tell)
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def again(number: int = 0, frame: object = None) -> None:
        with suppress(BlockingIOError):
            os.write(writing, b"w")

    watcher = threading.Thread(target=_tell_each, args=(reading, tell), daemon=True)
    watcher.start()
    before = signal.signal(signal.SIGWINCH, again)
    try:
        yield again
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(writing)
        watcher.join()
        os.close(reading)


def _tell_each(reading: int, tell: Tell) -> None:
    while os.read(reading, 4096):  # Several at once are told as one.
        size = window()
        if size is not None:
            tell(*size)


def _looking_at_window(tell: Tell) -> Iterator[Callable[[], None]]:
    finished, known = threading.Event(), window()

    def again() -> None:
        if (size := window()) is not None:
            tell(*size)

    def look() -> None:
        nonlocal known
        while not finished.wait(_LOOK_S):
            if window() != known:
                known = window()
                again()

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield again
    finally:
        finished.set()
        watcher.join()


def understand_escapes() -> None:
    """Have colours and cursor movements done, not shown; only Windows' console must be asked."""
    if sys.platform == "win32":
        os.system("")  # Starting a shell leaves the console in that mode.
