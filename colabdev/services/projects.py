"""Starting a project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colabdev.errors import UsageError, unknown_word
from colabdev.ports import Templates


@dataclass(frozen=True, slots=True)
class NewProject:
    """A project that `init` made, and the files in it."""

    path: Path
    template: str
    files: Sequence[str]


class Projects:
    """Makes projects from templates."""

    def __init__(self, templates: Templates, home: Path | None) -> None:
        self._templates = templates
        self._home = home

    def init(self, target: Path, template: str) -> NewProject:
        """Copy `template` into `target`, which must be empty or missing. All or nothing."""
        known = self._templates.names()
        if template not in known:
            raise UsageError(unknown_word("template", template, known), hint="colabdev init --help")
        if target in (self._home, target.parent):
            raise UsageError(
                f"cannot make a project of {target}: it is your home directory or the root of a disk",
                hint=f"colabdev init my-project --template {template}",
            )
        if _is_taken(target):
            raise UsageError(
                f"cannot make a project in {target}: something is there already",
                hint=f"name a new directory: colabdev init {target.name}-2 --template {template}",
            )
        return NewProject(target, template, self._templates.copy(template, target))


def _is_taken(target: Path) -> bool:
    try:
        if target.is_symlink():
            return True
        return target.exists() and not (target.is_dir() and not any(target.iterdir()))
    except OSError as exc:
        raise UsageError(
            f"cannot make a project in {target}: {exc.strerror}", hint="choose another directory"
        ) from exc
