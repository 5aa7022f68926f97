"""What a provider keeps of its runtimes on this computer: one JSON file for each name, in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from colabdev.adapters.files import make_private_directory, not_writable, write_atomic
from colabdev.core.names import is_runtime_name
from colabdev.errors import ColabdevError

_VARIABLE = "COLABDEV_STATE_DIR"


class NamedDocuments:
    """`<directory>/<name>.json`. What cannot be written raises `StateNotWritable`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def names(self) -> Sequence[str]:
        """The names that have a file, sorted."""
        try:
            files = os.listdir(self._directory)
        except FileNotFoundError:
            return ()
        names = (file.removesuffix(".json") for file in files if file.endswith(".json"))
        return tuple(sorted(name for name in names if is_runtime_name(name)))

    def read(self, name: str) -> Any:
        """The document, None without one; OSError or ValueError when it cannot be read."""
        try:
            return json.loads(self.path(name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def write(self, name: str, document: Mapping[str, object]) -> None:
        """Put it in place, whole."""
        make_private_directory(self._directory, what="the state", variable=_VARIABLE)
        try:
            write_atomic(self.path(name), json.dumps(document, indent=1).encode("ascii") + b"\n")
        except OSError as exc:
            raise self._not_writable(exc) from exc

    def delete(self, name: str) -> None:
        """Harmless when it is gone."""
        try:
            self.path(name).unlink(missing_ok=True)
        except OSError as exc:
            raise self._not_writable(exc) from exc

    def _not_writable(self, exc: OSError) -> ColabdevError:
        return not_writable(self._directory, exc, what="the state", variable=_VARIABLE)
