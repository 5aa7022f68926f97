"""The runtimes that are known here, and which one a command means."""

from __future__ import annotations

from dataclasses import replace

from colabdev.core.choose import choose_runtime, last_of_project
from colabdev.core.names import check_runtime_name
from colabdev.errors import StateUnreadable
from colabdev.models import Phase, RuntimeRecord
from colabdev.ports import RuntimeStore


class KnownRuntimes:
    """What the state files say. It asks nobody."""

    def __init__(self, store: RuntimeStore) -> None:
        self._store = store

    def choose(
        self, named: str | None, project_path: str | None, *, naming: str = "-r {}"
    ) -> RuntimeRecord:
        """The runtime that a command without one of its own means; see `core.choose`."""
        if named is not None:
            # Only this one: another runtime's unreadable state must not be in the way.
            record = self._store.load(check_runtime_name(named))
            if record is not None:
                return record
        readable, unreadable = self.records()
        if unreadable and named is None:
            raise unreadable[0]
        return choose_runtime(readable, named=named, project_path=project_path, naming=naming)

    def last_of_project(self, project_path: str | None) -> RuntimeRecord | None:
        """The runtime that the project connected to last, if it is known still."""
        return last_of_project(self.records()[0], project_path)

    def records(self) -> tuple[list[RuntimeRecord], list[StateUnreadable]]:
        """What the state files say, and those that say nothing."""
        readable: list[RuntimeRecord] = []
        unreadable: list[StateUnreadable] = []
        for name in self._store.names():
            try:
                record = self._store.load(name)
            except StateUnreadable as exc:
                unreadable.append(exc)
                continue
            if record is not None:
                readable.append(record)
        return readable, unreadable


def note_lost(runtimes: RuntimeStore, record: RuntimeRecord) -> None:
    """Write down its provider's word that this machine is gone; that of the same name which has come
    since is another one."""

    def noted(known: RuntimeRecord) -> RuntimeRecord:
        is_that = (known.request_id, known.phase) == (record.request_id, Phase.UP)
        return replace(known, phase=Phase.LOST) if is_that else known

    runtimes.update(record.name, noted)
