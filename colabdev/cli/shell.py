"""`ssh`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from colabdev.cli.options import RuntimeOption, complete_name
from colabdev.errors import UsageError

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring

PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""What stands behind the name goes to ssh untouched."""

_COMMAND = "colabdev.command"


class ShellCommand(TyperCommand):
    """Keeps what stands behind `--` apart: `ssh -- pwd` names no runtime, `ssh local` does."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


def ssh(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="The runtime; default: this project's.", autocompletion=complete_name),
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(help="For ssh: its options, or a command.")
    ] = None,
    runtime: RuntimeOption = None,
) -> int:
    """Open a shell on the runtime, or run a command there, with the system's own ssh.

    Example: colabdev ssh local -- nvidia-smi
    """
    wiring: Wiring = ctx.obj
    words = [*([] if name is None else [name]), *(arguments or [])]
    if runtime is None and words:
        runtime = _name_of(words.pop(0))
    passed_on = [*words, *ctx.meta.get(_COMMAND, [])]
    command = wiring.runtimes().shell(wiring.named(runtime), wiring.project_path(), passed_on)
    return wiring.become(command)


def _name_of(word: str) -> str:
    if word.startswith("-"):
        raise UsageError(
            f"the runtime's name comes before what is for ssh ({word})",
            hint=f"colabdev ssh NAME {word}",
        )
    return word
