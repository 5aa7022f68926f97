"""What joins this terminal and a running job: what is typed and the window's size go there."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from colabdev.agent import jobdir
from colabdev.cli import terminal
from colabdev.cli.interrupts import passing_interrupts_on
from colabdev.core.escapes import Escapes
from colabdev.errors import ColabdevError, UsageError

if sys.platform != "win32":
    from colabdev.cli.raw_keyboard import interrupt_main_thread, raw_keyboard

if TYPE_CHECKING:
    from colabdev.cli.streams import Screen
    from colabdev.services.job_input import JobInput

_READ_BYTES = 64 * 1024
_SETTLE_S = 2.0
"""How long `~.` waits for what was typed before it; a path that is cut must not hold anybody here."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a job gets of where we run."""

    window: tuple[int, int] | None = None
    """Columns and rows of its terminal; None for none."""
    stdin: str = jobdir.NO_INPUT
    variables: Mapping[str, str] = field(default_factory=dict)
    attached: bool = False
    """Ctrl-C is for it."""


def wishes(*, interactive: bool, attached: bool, detach: bool) -> Wishes:
    """A terminal when we write to one; its keyboard when that is there too, else a pipe."""
    if attached and detach:
        raise UsageError(
            "cannot both stay with a job and leave it: --attached and --detach exclude each other",
            hint="colabdev run SCRIPT stays, and Ctrl-C leaves the job running",
        )
    if interactive and detach:
        raise UsageError(
            "cannot type into a job and leave it alone: -i and --detach exclude each other",
            hint="colabdev run -i … stays; ~. detaches later",
        )
    window = None if detach else terminal.window()
    stdin = jobdir.NO_INPUT
    if interactive:
        stdin = jobdir.TERMINAL if window and terminal.has_keyboard() else jobdir.PIPE
    if stdin == jobdir.TERMINAL:
        _check_keyboard()
    return Wishes(window, stdin, terminal.variables(os.environ) if window else {}, attached)


class Attachment:
    """Joins them from `begin` to the end of the `with` block, whatever ends that."""

    def __init__(
        self,
        way_in: JobInput,
        screen: Screen,
        *,
        stdin: str,
        types: bool,
        pty: bool,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        """`stdin` and `pty` are the job's; `types`: what is typed, or piped, is for it; `interrupt`
        sends it Ctrl-C, None: that leaves it."""
        self._way_in = way_in
        self._screen = screen
        self._is_raw = types and stdin == jobdir.TERMINAL and terminal.has_keyboard()
        self._types = types
        self._interrupt = interrupt
        self._follows_window = pty and terminal.window() is not None
        self._stack = ExitStack()
        if self._is_raw:
            _check_keyboard()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def begin(self, *, redraw: bool = False) -> None:
        """The job runs. `redraw`: it has been running, so tell it this window's size."""
        look_again: Callable[[], None] = lambda: None  # noqa: E731
        if self._follows_window:
            terminal.understand_escapes()
            look_again = self._stack.enter_context(terminal.watching_window(self._way_in.resize))
            if redraw:
                look_again()
        if self._is_raw and sys.platform != "win32":
            self._screen.progress("~. on a line of its own detaches, ~~ types a tilde")
            self._stack.enter_context(self._screen.raw())
            self._stack.enter_context(raw_keyboard(look_again))
        elif self._interrupt:
            self._screen.progress(
                "Ctrl-C is the job's; where it does not get there, another one leaves it running"
            )
            interrupts = passing_interrupts_on(self._interrupt, self._screen.progress)
            self._stack.enter_context(interrupts)
        # Closed first of all: whoever is stuck in sending is let go.
        self._stack.callback(self._way_in.close)
        if self._types:
            threading.Thread(target=self._forward, daemon=True).start()

    def _forward(self) -> None:
        """All of stdin, to its end or to the user's `~.`."""
        escapes = Escapes() if self._is_raw else None
        try:
            while typed := _read_stdin():
                passed = escapes.take(typed) if escapes else typed
                if passed and not self._way_in.write(passed):
                    return
                if escapes and escapes.detached and sys.platform != "win32":
                    if not self._way_in.settle(_SETTLE_S):
                        self._screen.progress("what was typed last may not have reached the job")
                    interrupt_main_thread()
                    return
        except OSError as exc:
            if self._is_raw:
                return  # The terminal has gone, and we with it.
            self._screen.progress(f"cannot read stdin: {exc.strerror}; the job's input ends here")
        self._way_in.end()


def check_types(job_id: str, stdin: str) -> None:
    """Raises unless the job takes input."""
    if stdin == jobdir.NO_INPUT:
        raise ColabdevError(
            f"cannot type into {job_id}: it was started without -i",
            hint=f"colabdev attach {job_id} shows it; colabdev run -i … takes input",
        )


def _read_stdin() -> bytes:
    return os.read(sys.stdin.fileno(), _READ_BYTES) if sys.stdin is not None else b""


def _check_keyboard() -> None:
    if sys.platform == "win32":
        raise ColabdevError(
            "cannot hand a Windows console's keyboard to a job yet; only a pipe",
            hint="colabdev ssh opens a terminal there",
        )
