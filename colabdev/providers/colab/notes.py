"""What was asked of Colab from this computer: `<state>/colab/<name>.json`, one for each runtime.

Colab knows no names of ours; this is where a name leads to an endpoint. Written before Colab is asked,
so that nothing that could be billed is ever unknown here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colabdev.adapters.named_documents import NamedDocuments
from colabdev.core.records import format_machine, parse_machine
from colabdev.errors import ColabdevError
from colabdev.models import Machine

_SCHEMA = 1


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
        self._documents = NamedDocuments(directory)

    def names(self) -> Sequence[str]:
        return self._documents.names()

    def load(self, name: str) -> Note | None:
        """None without one; `ColabdevError` when it cannot be read."""
        try:
            document = self._documents.read(name)
            return None if document is None else _parse(document)
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as exc:
            path = self._documents.path(name)
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
        self._documents.write(name, document)

    def delete(self, name: str) -> None:
        self._documents.delete(name)


def _parse(document: Mapping[str, Any]) -> Note:
    machine, endpoint = document["machine"], document["endpoint"]
    return Note(
        request_id=str(document["request_id"]),
        endpoint=None if endpoint is None else str(endpoint),
        machine=None if machine is None else parse_machine(machine),
        adopted=bool(document["adopted"]),
    )
