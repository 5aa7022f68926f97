"""Rehearsing a VM's death on a runtime of this computer."""

from __future__ import annotations

from colabdev.core.names import check_runtime_name
from colabdev.errors import RuntimeNotFound, UsageError
from colabdev.ports import MortalProvider, Progress, RuntimeStore


class Rehearsal:
    """Lets local runtimes die, and tells nobody, as Colab does not: their records stay."""

    def __init__(self, *, store: RuntimeStore, provider: MortalProvider) -> None:
        self._store = store
        self._provider = provider

    def kill(self, name: str, progress: Progress) -> bool:
        """Let the runtime die; False when it was dead already.

        Nobody else's operation is waited for: a VM dies while others work on it, too.
        """
        record = self._store.load(check_runtime_name(name))
        if record is not None and record.provider != self._provider.name:
            raise UsageError(
                f"cannot kill {name!r}: it is a runtime of provider {record.provider!r}, and only "
                f"{self._provider.name!r} ones can be killed",
                hint=f"colabdev down {name} gives it back",
            )
        if record is None and name not in self._provider.names():
            raise RuntimeNotFound(
                f"no runtime is called {name!r}", hint="colabdev status lists them"
            )
        progress(f"killing {name}")
        return self._provider.kill(name)
