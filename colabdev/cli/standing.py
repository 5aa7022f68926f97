"""Where a command is typed: the working directory, and the project it belongs to."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from colabdev.config.project import Project, find_project
from colabdev.errors import ColabdevError, UsageError

if TYPE_CHECKING:
    from colabdev.config.settings import Settings


class OwnProject:
    """The project we stand in."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.path = project.path

    @cached_property
    def settings(self) -> Settings | None:
        """What its `colabdev.toml` says; None without one. Read when asked for, as few commands ask."""
        if not self._project.has_settings:
            return None
        from colabdev.config.settings import load_settings

        return load_settings(self._project.settings_file)

    @property
    def name(self) -> str:
        """The one in its settings, else the folder's."""
        return (self.settings.project.name if self.settings else None) or self.path.name


def own_project() -> OwnProject:
    """The project we stand in, which there must be; `UsageError` in a home directory or a root."""
    return OwnProject(find_project(working_directory(), home()))


def find_own_project() -> OwnProject | None:
    """The project we stand in; None in a home directory or a root."""
    try:
        return own_project()
    except UsageError:
        return None  # A runtime needs no project.


def working_directory() -> Path:
    """Where we stand."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ColabdevError(
            "the current directory does not exist any more", hint="cd to one that does"
        ) from None


def home() -> Path | None:
    """The user's home directory, if they have one."""
    try:
        return Path.home()
    except RuntimeError:
        return None
