"""Rebuilding the record of a runtime from what its provider says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from colabdev.core.names import check_runtime_name
from colabdev.errors import ColabdevError, RuntimeNotFound, StateUnreadable
from colabdev.models import Phase, RuntimeRecord
from colabdev.ports import HostEntries, Provider, RuntimeStore


@dataclass(frozen=True, slots=True)
class Repair:
    """What came of repairing a state file."""

    record: RuntimeRecord | None
    """None when no provider knows such a runtime."""
    aside: str = ""
    """Where the unreadable file is kept now."""
    needed: bool = True


class Repairs:
    """What can be learned of runtimes without their state files."""

    def __init__(
        self,
        *,
        store: RuntimeStore,
        provider: Callable[[str], Provider],
        provider_names: Sequence[str],
        host_entries: HostEntries,
    ) -> None:
        self._store = store
        self._provider = provider
        self._provider_names = provider_names
        self._host_entries = host_entries

    def strays(self) -> Sequence[str]:
        """Runtimes that run and have no state file: somebody removed it."""
        return sorted(self._running() - set(self._store.names()))

    def is_stray(self, name: str) -> bool:
        """Whether it is one of them; no provider is asked about a runtime that is known."""
        return name not in self._store.names() and name in self._running()

    def _running(self) -> set[str]:
        return {
            name for provider in self._provider_names for name in self._provider(provider).names()
        }

    def repair(self, name: str) -> Repair:
        """Rebuild a state file that is unreadable or gone from what the providers say.

        Only what was rebuilt replaces anything, and an unreadable file is kept under another name.
        """
        check_runtime_name(name)
        with self._store.operation(name):
            try:
                record = self._store.load(name)
            except StateUnreadable:
                self._check_can_ask(self._store.salvage(name).get("provider"))
                rebuilt = self.rebuilt(name)
                if rebuilt is None:
                    self._host_entries.remove(name)  # No record will be there for `down` to do it.
                return Repair(rebuilt, self._store.replace_unreadable(name, rebuilt))
            if record is not None:
                return Repair(record, needed=False)
            rebuilt = self.rebuilt(name)
            if rebuilt is None:
                raise RuntimeNotFound(
                    f"no runtime is called {name!r}", hint="colabdev status lists them"
                )
            self._store.save(rebuilt)
            return Repair(rebuilt)

    def rebuilt(self, name: str) -> RuntimeRecord | None:
        """The record of the runtime that a provider knows under that name, if one does."""
        for provider_name in self._provider_names:
            machine = self._provider(provider_name).find(name)
            if machine is not None:
                return RuntimeRecord(
                    name=name,
                    provider=provider_name,
                    request_id=machine.request_id,
                    created=machine.since,
                    # Without a key it was never set up, and `connect` goes on with that.
                    phase=Phase.UP if machine.ssh.host_key else Phase.STARTING,
                    machine=machine if machine.ssh.host_key else None,
                    host=machine.ssh.login.host if machine.ssh.login else None,
                )
        return None

    def _check_can_ask(self, provider: str | None) -> None:
        """Nobody else's word takes the state of a runtime away."""
        if provider is not None and provider not in self._provider_names:
            raise ColabdevError(
                f"cannot repair it: this colabdev cannot ask its provider, {provider!r}",
                hint="update colabdev, then type the command again",
            )
