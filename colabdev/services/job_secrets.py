"""Where the secrets of a job come from. Their values are in memory only, here and on the runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from colabdev.errors import ColabdevError


@dataclass(frozen=True, slots=True)
class SecretSources:
    """Asked in this order; each gives None when it has no such secret."""

    keyring: Callable[[str], str | None]
    environment: Mapping[str, str] = field(repr=False)
    prompt: Callable[[str], str | None]

    def find(self, names: Iterable[str]) -> dict[str, str]:
        """The secrets of those names; ColabdevError when nobody has one of them."""
        return {name: self._find(name) for name in names}

    def known(self, names: Iterable[str]) -> dict[str, str]:
        """Those of them that somebody has."""
        found = {name: self._ask(name) for name in names}
        return {name: value for name, value in found.items() if value}

    def _ask(self, name: str) -> str | None:
        return self.keyring(name) or self.environment.get(name) or self.prompt(name)

    def _find(self, name: str) -> str:
        value = self._ask(name)
        if not value:
            raise ColabdevError(
                f"cannot find the secret {name}: neither the keyring nor the environment has it, and "
                "nobody is here to be asked",
                hint=f"keyring set colabdev {name}; or set the variable {name} where you type this",
            )
        return value
