"""`config schema`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from colabdev.cli import output
from colabdev.errors import ExitCode

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def schema(ctx: typer.Context) -> int:
    """Print the JSON Schema of colabdev.toml, for editors.

    Example: colabdev config schema > colabdev.schema.json
    """
    wiring: Wiring = ctx.obj
    output.line(json.dumps(wiring.settings_schema(), indent=2))
    return ExitCode.OK
