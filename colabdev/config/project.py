"""Which project a command is about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from colabdev.errors import UsageError

SETTINGS_FILE = "colabdev.toml"


@dataclass(frozen=True, slots=True)
class Project:
    """A folder of code on this computer."""

    path: Path
    has_settings: bool

    @property
    def settings_file(self) -> Path:
        return self.path / SETTINGS_FILE


def find_project(start: Path, home: Path | None) -> Project:
    """The nearest folder upward with `colabdev.toml`, else the git top level, else `start` itself.

    The home directory and file-system roots are refused with `UsageError`: nobody means to send those.
    """
    folders = list(_upward(start))
    # os.path, because a folder that may not be searched is no reason to fail: it holds no project.
    # A link that leads nowhere counts: settings that cannot be read are not settings that are not there.
    settings = next((folder for folder in folders if os.path.lexists(folder / SETTINGS_FILE)), None)
    # A home directory that is a git repository holds dotfiles, not the project one stands in.
    top_level = next(
        (folder for folder in folders if os.path.exists(folder / ".git") and folder != home), None
    )
    chosen = settings or top_level or start
    if chosen in (home, chosen.parent):
        raise UsageError(
            f"cannot take {chosen} as a project: it is your home directory or the root of a disk",
            hint="cd into the folder of your project first",
        )
    return Project(chosen, has_settings=settings is not None)


def _upward(start: Path) -> Iterator[Path]:
    yield start
    yield from start.parents
