"""The notebook that is a runtime's way in: its one cell, filled in for this computer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_QUOTES = "'''"


@dataclass(frozen=True, slots=True)
class FilledNotebook:
    """A notebook to open in a browser, as its file's text; and its code cell alone."""

    text: str
    cell: str


def fill_notebook(
    template: str, *, public_key: str, settings: Mapping[str, str], sources: Mapping[str, str]
) -> FilledNotebook:
    """The notebook of `templates/notebook`, for the owner of that key. `settings` is what
    `agent/cell.py` takes; `sources` are modules of the agent by path, which stand in the cell as they
    are, so that one can read what one runs."""
    document: dict[str, Any] = json.loads(template)
    (code,) = (cell for cell in document["cells"] if cell["cell_type"] == "code")
    values = {
        "PUBLIC_KEY": public_key,
        "SETTINGS": repr(dict(settings)),
        "FILES": "\n".join(_entry(name, text) for name, text in sorted(sources.items())),
    }
    cell = re.sub("@([A-Z_]+)@", lambda found: values[found[1]], "".join(code["source"]))
    code["source"] = cell.splitlines(keepends=True)
    return FilledNotebook(json.dumps(document, indent=1) + "\n", cell)


def _entry(name: str, text: str) -> str:
    # It may be pasted through a terminal of any encoding; in comments and in texts it means the same.
    text = text.encode("ascii", "backslashreplace").decode("ascii")
    if _QUOTES in text or text.endswith(("\\", "'")):
        return f"{name!r}: {text!r},"
    return f"{name!r}: r{_QUOTES}{text}{_QUOTES},"
