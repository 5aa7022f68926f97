"""What was asked of Colab from this computer: `<state>/colab/<name>.json`, one for each runtime.

Colab knows no names of ours; this is where a name leads to an endpoint. Written before Colab is asked,
so that nothing that could be billed is ever unknown here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colabdev.adapters.files import make_private_directory, not_writable, write_atomic
from colabdev.core.names import is_runtime_name
from colabdev.core.records import format_machine, parse_machine
from colabdev.errors import ColabdevError
from colabdev.models import Machine

_SCHEMA = 1
_VARIABLE = "COLABDEV_STATE_DIR"


@dataclass(frozen=True, slots=True)
class Note:
    """One runtime, as far as it came."""

    request_id: str
    endpoint: str | None = None
    """None while nobody knows whether Colab has made one."""
    machine: Machine | None = None
    """None until it is set up."""
    adopted: bool = False
    """It was made elsewhere."""


class Notes:
    """The notes below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> Sequence[str]:
        try:
            files = os.listdir(self._directory)
        except FileNotFoundError:
            return ()
        names = (file.removesuffix(".json") for file in files if file.endswith(".json"))
        return tuple(sorted(name for name in names if is_runtime_name(name)))

    def load(self, name: str) -> Note | None:
        """None without one; `ColabdevError` when it cannot be read."""
        path = self._path(name)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            machine = document["machine"]
            endpoint = document["endpoint"]
            return Note(
                request_id=str(document["request_id"]),
                endpoint=None if endpoint is None else str(endpoint),
                machine=None if machine is None else parse_machine(machine),
                adopted=bool(document["adopted"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ColabdevError(
                f"cannot read {path}, which says what {name} is at Colab: {exc}",
                hint=f"end it at https://colab.research.google.com (Manage sessions), remove {path}",
            ) from exc

    def save(self, name: str, note: Note) -> None:
        document = {
            "schema": _SCHEMA,
            "request_id": note.request_id,
            "endpoint": note.endpoint,
            "machine": None if note.machine is None else format_machine(note.machine),
            "adopted": note.adopted,
        }
        make_private_directory(self._directory, what="the state", variable=_VARIABLE)
        try:
            write_atomic(self._path(name), json.dumps(document, indent=1).encode("ascii") + b"\n")
        except OSError as exc:
            raise self._not_writable(exc) from exc

    def delete(self, name: str) -> None:
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as exc:
            raise self._not_writable(exc) from exc

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _not_writable(self, exc: OSError) -> ColabdevError:
        return not_writable(self._directory, exc, what="the state", variable=_VARIABLE)
