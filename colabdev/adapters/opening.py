"""A project's folder as something that can be synced."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from colabdev.adapters.files import cache_name, write_cache
from colabdev.adapters.project_rules import RuleSettings
from colabdev.adapters.project_tree import ProjectTree, TreeSettings, project_gone
from colabdev.adapters.rule_files import Compile
from colabdev.adapters.sync_memory import FileSyncMemory
from colabdev.config.project import SETTINGS_FILE
from colabdev.models import SyncedSettings
from colabdev.ports import SyncedProject
from colabdev.version import VERSION


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens projects, each by its settings as they are at that moment."""

    state_dir: Path
    compile_rules: Compile
    load_settings: Callable[[Path], SyncedSettings]
    """Reads and checks a `colabdev.toml`."""
    max_bytes: int

    def settings(self, path: Path) -> SyncedSettings:
        """What the project's `colabdev.toml` says; `ColabdevError` when that cannot be read."""
        if not path.is_dir():
            raise project_gone(path)
        file = path / SETTINGS_FILE
        return self._known_settings(file) if os.path.lexists(file) else SyncedSettings()

    def open(self, path: Path) -> SyncedProject:
        """The project in that folder."""
        settings = self.settings(path)
        tree = ProjectTree(
            path,
            TreeSettings(
                self.state_dir / "indexes",
                self.max_bytes,
                self.compile_rules,
                RuleSettings(settings.exclude, settings.outputs),
            ),
        )
        memory = FileSyncMemory(tree.cache_prefix)
        name = settings.name or path.name
        return SyncedProject(str(path), name, tree, memory, self.max_bytes)

    def _known_settings(self, file: Path) -> SyncedSettings:
        """As they were when the same text was checked last: what checks takes long to load."""
        if not file.is_file():
            return self.load_settings(file)  # It says what is wrong.
        try:
            key = hashlib.sha256(VERSION.encode() + b"\n" + file.read_bytes()).hexdigest()
        except OSError:
            return self.load_settings(file)
        cache = self.state_dir / "indexes" / f"{cache_name(file.parent)}.settings.json"
        with suppress(OSError, ValueError, TypeError):
            known, name, exclude, outputs, watch = json.loads(cache.read_text(encoding="ascii"))
            if known == key:
                return SyncedSettings(name, tuple(exclude), tuple(outputs), watch)
        settings = self.load_settings(file)
        write_cache(cache, json.dumps([key, *astuple(settings)]).encode("ascii"))
        return settings
