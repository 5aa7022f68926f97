"""What is wrong here, and what to type."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from colabdev.errors import StateUnreadable
from colabdev.models import RuntimeRecord
from colabdev.ports import Computer, EntryFiles, RuntimeStore, WindowsSide
from colabdev.services import computer_checks
from colabdev.services.checks import Check, Look, bad, examine, warning, well
from colabdev.services.repairs import Repairs
from colabdev.services.runtime_checks import RuntimeChecks
from colabdev.services.runtimes import Runtimes

_RUNTIME_TIMEOUT_S = 45.0
_EDITOR_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where colabdev lives on this computer."""

    computer: Computer
    entries: EntryFiles
    state_dir: Path
    config_dir: Path
    windows: Callable[[], WindowsSide] | None
    """Finds the Windows around a WSL; None when there is none."""


class Doctor:
    """Looks at everything colabdev needs, here and on each runtime."""

    def __init__(
        self,
        *,
        here: Surroundings,
        store: RuntimeStore,
        runtimes: Runtimes,
        repairs: Repairs,
        runtime_checks: RuntimeChecks,
    ) -> None:
        self._here = here
        self._store = store
        self._runtimes = runtimes
        self._repairs = repairs
        self._runtime_checks = runtime_checks

    def examine(self) -> Sequence[Check]:
        """Every check, the good ones too."""
        records, unreadable = self._records()
        return examine(
            [
                *self._computer_looks(records),
                Look("state", lambda: self._check_state(len(records), unreadable)),
                Look("strays", self._check_strays),
                *self._runtime_looks(records),
            ]
        )

    def _computer_looks(self, records: Sequence[RuntimeRecord]) -> Iterator[Look]:
        here = self._here
        computer, entries, state_dir = here.computer, here.entries, here.state_dir
        beside_windows = here.windows is not None
        with_entry = [record for record in records if record.machine is not None]
        yield Look("ssh", lambda: computer_checks.check_ssh(computer))
        yield Look("ssh config", lambda: computer_checks.check_include(entries, with_entry))
        yield Look("permissions", lambda: computer_checks.check_permissions(computer, entries))
        yield Look("secrets", lambda: computer_checks.check_secrets(here.config_dir))
        yield Look("disk", lambda: computer_checks.check_disk(computer, state_dir))
        yield Look("ports", lambda: computer_checks.check_loopback(computer))
        yield Look(
            "editor",
            lambda: computer_checks.check_editors(computer, beside_windows=beside_windows),
            _EDITOR_TIMEOUT_S,
        )
        find_windows = here.windows
        if find_windows is not None:
            yield Look("windows", lambda: computer_checks.check_windows(find_windows, with_entry))
        if state_dir.is_dir():
            yield Look("clock", lambda: computer_checks.check_clock(computer, state_dir))

    def _runtime_looks(self, records: Sequence[RuntimeRecord]) -> Iterator[Look]:
        for record in records:
            yield Look(
                f"runtime {record.name}",
                partial(self._runtime_checks.check_runtime, record),
                _RUNTIME_TIMEOUT_S,
            )
            if record.machine is not None:
                yield Look(f"port {record.name}", partial(self._runtime_checks.check_port, record))

    def _records(self) -> tuple[list[RuntimeRecord], list[StateUnreadable]]:
        try:
            return self._runtimes.records()
        except StateUnreadable as exc:
            return [], [exc]

    def _check_state(self, readable: int, unreadable: Sequence[StateUnreadable]) -> Iterator[Check]:
        for error in unreadable:
            yield bad("state", error.message, error.hint)
        state_dir = self._here.state_dir
        if not unreadable:
            yield well("state", f"readable, all {readable} of them, in {state_dir}")
        for path in self._store.leftovers():
            saw = f"a command that was killed left {path}"
            yield warning("state", saw, f"rm {shlex.quote(str(path))}")

    def _check_strays(self) -> Iterator[Check]:
        for name in self._repairs.strays():
            yield bad(
                f"runtime {name}",
                "runs, but has no state file here",
                f"colabdev doctor --repair {name}, or colabdev down {name}",
            )
