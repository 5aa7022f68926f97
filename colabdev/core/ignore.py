"""The project's own rules, applied to paths that come from a list. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from colabdev.agent.rules import PROJECT, Folder, Rules


@dataclass(slots=True)
class Filter:
    """What git lists, but for what the project's own rules and its outputs take out of it."""

    rules: Rules
    """Own rules and outputs only."""
    _folders: dict[str, Folder | None] = field(default_factory=dict)

    def kept(self, paths: Iterable[str]) -> Iterator[str]:
        """Those that belong to the project."""
        return (path for path in paths if self.keeps(path))

    def keeps(self, path: str) -> bool:
        """Whether `path` belongs to the project, as far as these rules go."""
        folder = self._folder(path.rpartition("/")[0])
        return folder is not None and self.rules.kind(folder, path) == PROJECT

    def _folder(self, folder: str) -> Folder | None:
        if folder not in self._folders:
            above = self._folder(folder.rpartition("/")[0]) if folder else None
            if not folder:
                self._folders[folder] = self.rules.root()
            else:
                self._folders[folder] = above and self.rules.enter(above, folder + "/")
        return self._folders[folder]
