"""Handing every key to a job, and the terminal back as it was. Windows' console differs."""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

assert sys.platform != "win32", "nobody imports it there"


@contextmanager
def raw_keyboard(resumed: Callable[[], None]) -> Iterator[None]:
    """Inside, every key goes to whoever reads stdin, and what is written to the terminal is left as it
    is. The modes are put back on every way out: an error, a signal that ends us, a stop (`resumed`
    is told when that is over).
    """
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def enter() -> None:
        tty.setraw(keyboard, termios.TCSANOW)

    def leave() -> None:
        with suppress(termios.error):  # The terminal may be gone.
            termios.tcsetattr(keyboard, termios.TCSANOW, before)

    def end(number: int, frame: object) -> None:
        leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def stop(number: int, frame: object) -> None:
        leave()
        os.kill(os.getpid(), signal.SIGSTOP)

    def go_on(number: int, frame: object) -> None:
        enter()
        resumed()

    handlers = {
        signal.SIGTERM: end,
        signal.SIGHUP: end,
        signal.SIGQUIT: end,
        signal.SIGTSTP: stop,
        signal.SIGCONT: go_on,
    }
    replaced = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) is not signal.SIG_IGN  # As under nohup.
    }
    try:
        enter()
        yield
    finally:
        leave()
        for number, handler in replaced.items():
            signal.signal(number, handler)


def interrupt_main_thread() -> None:
    """As Ctrl-C does; for a thread that read what means the same."""
    main = threading.main_thread().ident
    assert main is not None, "it runs"
    signal.pthread_kill(main, signal.SIGINT)
