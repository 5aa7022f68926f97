"""The only module that prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from colabdev.core.sizes import format_size
from colabdev.errors import ColabdevError

SCHEMA = 1


class OutputLost(ColabdevError):
    """The result cannot be written to stdout."""


def document(content: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    line(json.dumps({"schema": SCHEMA, **content}, indent=2))


def line(text: str) -> None:
    """A result, flushed: only then is it known here that it arrived."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        drop(sys.stdout)  # Whoever read has seen enough.
    except (OSError, ValueError) as exc:
        drop(sys.stdout)
        raise OutputLost(
            f"cannot write the result: {exc}", hint="what was asked for is done all the same"
        ) from exc


def say(text: str) -> None:
    """Progress and complaints: nobody's work may stop because they cannot be shown."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        drop(sys.stderr)


def progress(step: str) -> None:
    """A step that begins."""
    say(f"  {step}")


def agrees(question: str) -> bool:
    """Whether somebody says yes to that, or just presses Enter."""
    print(f"{question} [Y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


class Meter:
    """How far a transfer is, on one line that is written over; silent unless stderr is a terminal."""

    _INTERVAL_S = 0.1
    _SILENT_S = 0.5

    def __init__(self) -> None:
        self._begun = self._shown = 0.0
        self._word = ""

    def __call__(self, word: str, done: int, total: int) -> None:
        now = time.monotonic()
        if word != self._word:
            self._word, self._begun, self._shown = word, now, now - self._INTERVAL_S
        finished = done >= total and self._shown > self._begun
        passed = now - self._begun
        if not finished and (passed < self._SILENT_S or now - self._shown < self._INTERVAL_S):
            return
        self._shown = now
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr.isatty():
                rate = format_size(int(done / passed)) if passed else "0 bytes"
                sizes = f"{format_size(done)} of {format_size(total)}"
                text = f"\r  {word} {sizes}, {rate}/s\x1b[K"
                print(text, end="\n" if done >= total else "", file=sys.stderr, flush=True)


def interrupted() -> None:
    """Ctrl-C: the terminal has echoed ^C in the middle of a line."""
    say("\ninterrupted; typing the same command again goes on")


def error(exc: ColabdevError, *, as_json: bool) -> None:
    """What failed and what to do next."""
    if as_json:
        line(json.dumps({"error": exc.to_json()}, indent=2))
        return
    say(f"colabdev: {exc.message}")
    if exc.hint:
        say(f"  next: {exc.hint}")


def printable(text: str) -> str:
    """The text on one line of any terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def drop(stream: TextIO) -> None:
    """Let what is left in the buffer go nowhere, or Python complains again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, stream.fileno())
        os.close(silence)
