"""`proxy`, which ssh types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from colabdev.errors import ExitCode

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def proxy(ctx: typer.Context, name: str) -> int:
    """Carry the bytes of one SSH connection to a runtime behind a tunnel: the host entry's ProxyCommand.

    Starts a keeper when none runs, and never a runtime.

    Example: colabdev proxy colab
    """
    wiring: Wiring = ctx.obj
    wiring.carry_ssh(name)
    return ExitCode.OK
