"""A project's folder as something that can be synced."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from colabdev.adapters.project_rules import RuleSettings
from colabdev.adapters.project_tree import ProjectTree, TreeSettings, project_gone
from colabdev.adapters.rule_files import Compile
from colabdev.adapters.sync_memory import FileSyncMemory
from colabdev.config.project import SETTINGS_FILE
from colabdev.config.settings import Settings, load_settings
from colabdev.ports import SyncedProject


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens projects, each by its settings as they are at that moment."""

    state_dir: Path
    compile_rules: Compile
    max_bytes: int

    def settings(self, path: Path) -> Settings:
        """What the project's `colabdev.toml` says; `ColabdevError` when that cannot be read."""
        if not path.is_dir():
            raise project_gone(path)
        file = path / SETTINGS_FILE
        return load_settings(file) if os.path.lexists(file) else Settings()

    def open(self, path: Path) -> SyncedProject:
        """The project in that folder."""
        settings = self.settings(path)
        tree = ProjectTree(
            path,
            TreeSettings(
                self.state_dir / "indexes",
                self.max_bytes,
                self.compile_rules,
                RuleSettings(settings.sync.exclude, _outputs(settings)),
            ),
        )
        memory = FileSyncMemory(tree.cache_prefix)
        name = settings.project.name or path.name
        return SyncedProject(str(path), name, tree, memory, self.max_bytes)


def _outputs(settings: Settings) -> tuple[str, ...]:
    """Checkpoints are carried in their own way; what a job writes there is nobody's edit."""
    place = settings.checkpoints.dir
    return settings.sync.outputs if place is None else (*settings.sync.outputs, f"/{place}")
