"""Looking at many things at once, so that none that fails or hangs hides another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from colabdev.errors import ColabdevError


class Level(StrEnum):
    """How well something is; only `bad` makes `doctor` fail."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was seen, and what to type when it is not well."""

    subject: str
    level: Level
    saw: str
    advice: str = ""

    @property
    def ok(self) -> bool:
        return self.level is not Level.BAD


def well(subject: str, saw: str) -> Check:
    return Check(subject, Level.OK, saw)


def warning(subject: str, saw: str, advice: str) -> Check:
    return Check(subject, Level.WARN, saw, advice)


def bad(subject: str, saw: str, advice: str) -> Check:
    return Check(subject, Level.BAD, saw, advice)


@dataclass(frozen=True, slots=True)
class Look:
    """Something to look at: gives its checks one by one, as it comes to know them."""

    subject: str
    checks: Callable[[], Iterable[Check]]
    timeout_s: float = 20.0


@dataclass(slots=True)
class _Running:
    look: Look
    found: list[Check] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            for check in self.look.checks():
                self.found.append(check)
        except ColabdevError as exc:
            self.found.append(bad(self.look.subject, exc.message, exc.hint))
        except OSError as exc:
            self.found.append(bad(self.look.subject, f"cannot be looked at: {exc}", ""))
        except Exception as exc:  # noqa: BLE001  A boundary: no check may hide the others.
            saw = f"a bug in colabdev: {type(exc).__name__}: {exc}"
            self.found.append(
                bad(self.look.subject, saw, "please report it: colabdev doctor --bundle")
            )
        finally:
            self.ended.set()

    def result(self, begun: float) -> Sequence[Check]:
        left_s = begun + self.look.timeout_s - time.monotonic()
        if self.ended.wait(max(left_s, 0)):
            return self.found
        saw = f"no answer within {self.look.timeout_s:.0f} s"
        return [*self.found, bad(self.look.subject, saw, "type the command again")]


def examine(looks: Sequence[Look]) -> Sequence[Check]:
    """The checks of all looks in their order. They look side by side; one that does not end is left
    behind, with what it had found."""
    running = [_Running(look) for look in looks]
    begun = time.monotonic()
    for each in running:
        threading.Thread(target=each.run, daemon=True).start()
    return [check for each in running for check in each.result(begun)]
