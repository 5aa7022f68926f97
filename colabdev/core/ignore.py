"""How rules for ignoring files combine. Pure: what a single rule set says comes from outside.

As git has it: rule sets stand in folders and are about what lies below; the nearest set that says
something decides; what lies in an ignored folder is ignored, whatever is said of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Verdict = Callable[[str], bool | None]
"""Whether a rule set ignores a path relative to its folder (one of a folder ends with '/'); None when
it says nothing of it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rule sets that are about what lies in one folder, each with its own folder; nearest last."""

    sets: tuple[tuple[str, Verdict], ...] = ()

    def with_set(self, folder: str, verdict: Verdict) -> Rules:
        """These and the rules that stand in `folder` ("" or ending with '/')."""
        return Rules((*self.sets, (folder, verdict)))

    def ignores(self, path: str) -> bool:
        """Whether `path` is ignored, given that the folder it lies in is not."""
        return bool(self.verdict(path))

    def verdict(self, path: str) -> bool | None:
        """What the nearest rule set that says anything says of `path`."""
        for folder, verdict in reversed(self.sets):
            said = verdict(path[len(folder) :])
            if said is not None:
                return said
        return None


@dataclass(slots=True)
class Filter:
    """Rules at the top of a tree, for paths that come from a list."""

    rules: Rules
    _folders: dict[str, bool] = field(default_factory=dict)

    def kept(self, paths: list[str]) -> Iterator[str]:
        """Those that are not ignored."""
        if not self.rules.sets:
            return iter(paths)
        return (path for path in paths if not self._ignores(path))

    def ignores_folder(self, folder: str) -> bool:
        """Whether a folder, or one above it, is ignored."""
        known = self._folders.get(folder)
        if known is None:
            above = folder.rpartition("/")[0]
            known = bool(above) and self.ignores_folder(above)
            known = self._folders[folder] = known or self.rules.ignores(folder + "/")
        return known

    def _ignores(self, path: str) -> bool:
        folder = path.rpartition("/")[0]
        return bool(folder and self.ignores_folder(folder)) or self.rules.ignores(path)
