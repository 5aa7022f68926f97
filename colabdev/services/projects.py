"""Starting a project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colabdev.errors import UsageError, unknown_word
from colabdev.ports import Templates

_MINIMAL = "minimal"
_PARTS = {"checkpoint": "checkpoint.py"}
"""What `init --only` takes of the PyTorch template."""


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

    def init(self, target: Path, template: str | None) -> NewProject:
        """Copy `template` into `target`, which must be empty or missing. All or nothing.

        Without a template it is the minimal one; and a project that is there gets its settings alone.
        """
        if template is None and _has_files(target):
            return self.add(target, _MINIMAL, "colabdev.toml")
        template = _MINIMAL if template is None else template
        known = self._templates.names()
        if template not in known:
            raise UsageError(unknown_word("template", template, known), hint="colabdev init --help")
        self._refuse_home(target, template)
        if _is_taken(target) or _has_files(target):
            raise UsageError(
                f"cannot make a project in {target}: something is there already",
                hint=f"name a new directory: colabdev init {target.name}-2 --template {template}",
            )
        return NewProject(target, template, self._templates.copy(template, target))

    def add(self, target: Path, template: str, file: str) -> NewProject:
        """Put one file of a template into `target`; what is there stays as it is."""
        self._refuse_home(target, template)
        if (target / file).is_symlink() or (target / file).exists():
            raise UsageError(
                f"cannot write {target / file}: something is there already",
                hint=f"it is yours to edit; move it away for a new one: mv {file} {file}.old",
            )
        self._templates.add(template, file, target)
        return NewProject(target, template, [file])

    def init_only(self, target: Path, part: str) -> NewProject:
        """Put one part of the PyTorch template into `target`."""
        if part not in _PARTS:
            raise UsageError(
                unknown_word("part", part, sorted(_PARTS)), hint="colabdev init --help"
            )
        return self.add(target, "pytorch", _PARTS[part])

    def _refuse_home(self, target: Path, template: str) -> None:
        if target in (self._home, target.parent):
            raise UsageError(
                f"cannot make a project of {target}: it is your home directory or the root of a disk",
                hint=f"colabdev init my-project --template {template}",
            )


def _has_files(target: Path) -> bool:
    try:
        return not target.is_symlink() and target.is_dir() and any(target.iterdir())
    except OSError as exc:
        raise UsageError(
            f"cannot make a project in {target}: {exc.strerror}", hint="choose another directory"
        ) from exc


def _is_taken(target: Path) -> bool:
    try:
        return target.is_symlink() or (target.exists() and not target.is_dir())
    except OSError as exc:
        raise UsageError(
            f"cannot make a project in {target}: {exc.strerror}", hint="choose another directory"
        ) from exc
