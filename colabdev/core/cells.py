"""Cells for a notebook's kernel that run a module of ours there, as text, and what they print."""

from __future__ import annotations

import json
from typing import Any

_CELL = """\
def _colabdev():
    import json
    names = {{"__name__": "{module}"}}
    exec(compile({source!r}, "<colabdev>", "exec"), names)
    print({marker!r} + json.dumps({expression}))
_colabdev()
del _colabdev
"""


def render_cell(module: str, source: str, expression: str) -> str:
    """A cell that prints what the expression comes to, in which `names` has the module's. It leaves no
    name in the notebook."""
    return _CELL.format(module=module, source=source, marker=_marker(module), expression=expression)


def parse_cell(module: str, printed: str) -> Any:
    """What the cell printed; ValueError when that makes no sense."""
    _, found, rest = printed.rpartition(_marker(module))
    if not found:
        raise ValueError("it printed no answer")
    return json.loads(rest.partition("\n")[0])


def _marker(module: str) -> str:
    return module.replace("_", "-") + " "
