"""What a job needs to find installed: a requirements file, or what a pyproject.toml depends on."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colabdev.agent import requirement_lines
from colabdev.config.scripts import Standpoint, path_in_project
from colabdev.errors import UsageError

_PYPROJECT = "pyproject.toml"


@dataclass(frozen=True, slots=True)
class Requirements:
    """What is to be installed for a job."""

    name: str
    """As it was typed."""
    path: str
    """The file of the project that has it, as it is on the runtime; "" when `lines` have it all."""
    lines: tuple[str, ...] = ()

    def to_json(self) -> Mapping[str, object]:
        """As a job's spec has it."""
        return {"name": self.name, "file": self.path, "lines": list(self.lines)}

    def every_line(self, project: Path) -> list[str]:
        """With those of the file, and of what it includes; OSError."""
        return [
            *self.lines,
            *(requirement_lines.read(str(project / self.path)) if self.path else []),
        ]


def find_requirements(typed: str, standpoint: Standpoint) -> Requirements:
    """The requirements in that file; UsageError says why there are none."""
    path = path_in_project(typed, standpoint)
    if os.path.basename(path) != _PYPROJECT:
        return Requirements(typed, path)
    return Requirements(typed, "", _dependencies(typed, standpoint))


def _dependencies(typed: str, standpoint: Standpoint) -> tuple[str, ...]:
    """The `dependencies` of `[project]`. Read here, because the runtime's Python may know no TOML."""
    try:
        document: dict[str, Any] = tomllib.loads(
            (standpoint.cwd / typed).read_text(encoding="utf-8-sig")
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise UsageError(f"cannot read {typed!r}: {exc}", hint="mend that file") from exc
    project = document.get("project")
    listed = project.get("dependencies") if isinstance(project, dict) else None
    if not isinstance(listed, list) or not all(isinstance(line, str) for line in listed):
        raise UsageError(
            f"cannot install what {typed!r} requires: it lists no dependencies in [project]",
            hint="list them there, or name a requirements.txt",
        )
    return tuple(listed)
