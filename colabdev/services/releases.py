"""Giving runtimes back, each only once what must outlive it is somewhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from colabdev.core.names import check_runtime_name
from colabdev.crash_points import crash_point
from colabdev.errors import ColabdevError, ReleaseUnproven, StateNotWritable, UsageError
from colabdev.models import Phase, RuntimeRecord
from colabdev.ports import HostEntries, Keepers, Progress, Provider, RuntimeStore
from colabdev.services.repairs import Repairs

BringHome = Callable[[RuntimeRecord, Progress], Sequence[str]]
"""Ends a machine's jobs and copies to this computer what must outlive it; says what it could not copy,
and returns the jobs that may run on."""


@dataclass(frozen=True, slots=True)
class Release:
    """How the release of one runtime went."""

    name: str
    error: ColabdevError | None = None
    stays: str = ""
    """What is not deleted because it is the user's own."""
    running: Sequence[str] = ()
    """Jobs on a machine that stays which could not be ended."""


Choose = Callable[[str | None, str | None], RuntimeRecord]
"""The runtime that was named, else the one that the project means."""


class Releases:
    """`down`. Every step may be interrupted and typed again."""

    def __init__(
        self,
        *,
        store: RuntimeStore,
        provider: Callable[[str], Provider],
        keepers: Keepers,
        host_entries: HostEntries,
        repairs: Repairs,
    ) -> None:
        self._store = store
        self._provider = provider
        self._keepers = keepers
        self._host_entries = host_entries
        self._repairs = repairs

    def to_release(
        self, named: str | None, project_path: str | None, choose: Choose
    ) -> Sequence[str]:
        """The name that `down` is about to release."""
        if named is not None and self._repairs.is_stray(check_runtime_name(named)):
            return [named]
        return [choose(named, project_path).name]

    def all_to_release(self, named: str | None) -> Sequence[str]:
        """The names that `down --all` is about to release: all known, and all that run unknown."""
        if named is not None:
            raise UsageError(
                f"cannot release {named!r} and all of them: name one, or say --all",
                hint=f"colabdev down {named}",
            )
        return sorted({*self._store.names(), *self._repairs.strays()})

    def down(
        self,
        names: Sequence[str],
        progress: Progress,
        bring_home: BringHome,
        *,
        request_id: str | None = None,
    ) -> Sequence[Release]:
        """Give the runtimes back. One that cannot be released does not keep the others; with
        `request_id` one that was started by another request is left alone."""
        return [self._down_or_reason(name, progress, bring_home, request_id) for name in names]

    def _down_or_reason(
        self, name: str, progress: Progress, bring_home: BringHome, request_id: str | None
    ) -> Release:
        try:
            return self._down(name, progress, bring_home, request_id)
        except ColabdevError as exc:
            return Release(name, exc)

    def would_release(self, names: Sequence[str]) -> Sequence[Release]:
        """What `down` would come to, if nothing is in its way."""
        releases = []
        for name in names:
            try:
                record = self._store.load(name) or self._repairs.rebuilt(name)
                releases.append(Release(name, stays=_what_stays(record)))
            except ColabdevError as exc:
                releases.append(Release(name, exc))
        return releases

    def _down(
        self, name: str, progress: Progress, bring_home: BringHome, request_id: str | None
    ) -> Release:
        """Give the runtime back, and forget it once that is proved."""
        with self._store.operation(name):
            record = self._store.load(name) or self._repairs.rebuilt(name)
            if record is None or request_id not in (None, record.request_id):
                return Release(name)
            unended = bring_home(record, progress)
            # A full disk must not stop the one command that makes room on it.
            with suppress(StateNotWritable):
                self._store.update(name, lambda known: replace(known, phase=Phase.RELEASING))
            crash_point("down.marked")
            self._release(record, progress)
            crash_point("down.released")
            self._host_entries.remove(name)
            crash_point("down.host_entry")
            self._store.delete(name)
        stays = _what_stays(record)
        return Release(name, stays=stays, running=unended if stays else ())

    def _release(self, record: RuntimeRecord, progress: Progress) -> None:
        provider = self._provider(record.provider)
        self._keepers.stop(record)
        crash_point("down.keeper_stopped")
        progress(f"releasing {record.name}")
        provider.release(record.name)
        if provider.find(record.name) is not None:
            raise ReleaseUnproven(
                f"cannot release {record.name!r}: its provider still lists it; its record is kept",
                hint=f"colabdev down {record.name}",
            )


def _what_stays(record: RuntimeRecord | None) -> str:
    if record is None or record.host is None or record.machine is None:
        return ""
    return f"your files stay on {record.host}, in {record.machine.content_dir}"
