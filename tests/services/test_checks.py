"""Checks side by side: none that fails or hangs hides another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from colabdev.errors import UsageError
from colabdev.services.checks import Check, Level, Look, bad, examine, well

FINE = well("fine", "fine")


def test_order_is_that_of_the_looks_whichever_is_first() -> None:
    released = threading.Event()

    def slow() -> Iterator[Check]:
        released.wait(10)
        yield well("slow", "")

    def fast() -> Iterator[Check]:
        yield FINE
        released.set()

    found = examine([Look("slow", slow), Look("fast", fast)])
    assert [check.subject for check in found] == ["slow", "fine"]


def test_failure_is_said_after_what_was_seen_before_it() -> None:
    def refused() -> Iterator[Check]:
        yield FINE
        raise UsageError("cannot", hint="do that")

    def broken() -> Iterator[Check]:
        raise ValueError("oops")

    def no_file() -> Iterator[Check]:
        raise OSError(2, "No such file")

    found = examine(
        [Look("refused", refused), Look("broken", broken), Look("file", no_file), _fine("last")]
    )
    assert found[0] == FINE
    assert found[1] == bad("refused", "cannot", "do that")
    assert [(check.subject, check.level) for check in found[2:]] == [
        ("broken", Level.BAD),
        ("file", Level.BAD),
        ("fine", Level.OK),
    ]
    assert "a bug in colabdev: ValueError: oops" in found[2].saw


def test_look_that_hangs_is_left_behind() -> None:
    never = threading.Event()

    def hanging() -> Iterator[Check]:
        yield FINE
        never.wait()

    begun = time.monotonic()
    found = examine([Look("hanging", hanging, timeout_s=0.2), _fine("last")])
    never.set()
    assert time.monotonic() - begun < 10
    assert [check.level for check in found] == [Level.OK, Level.BAD, Level.OK]
    assert "no answer" in found[1].saw


def _fine(subject: str) -> Look:
    return Look(subject, lambda: [FINE])
