"""`doctor`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colabdev.cli import output, render
from colabdev.cli.options import JsonOption, complete_name
from colabdev.errors import ColabdevError, ExitCode, UsageError

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def doctor(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="With --bundle: the archive. Default: colabdev-bug-report-<date>.zip here.",
            show_default=False,
        ),
    ] = None,
    repair: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Rebuild an unreadable state file from the provider.",
            autocompletion=complete_name,
        ),
    ] = None,
    bundle: Annotated[
        bool,
        typer.Option("--bundle", help="Write what was seen, without secrets, for a bug report."),
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Look at everything colabdev needs, here and on each runtime, and say what to type.

    Example: colabdev doctor --repair local
    """
    wiring: Wiring = ctx.obj
    _check_words(file, repair, bundle)
    if repair is not None:
        render.repaired(repair, wiring.repairs().repair(repair), as_json=as_json)
        return ExitCode.OK
    checks = wiring.examination().doctor().examine()
    if bundle:
        path = wiring.absolute(file) if file is not None else None
        report = wiring.examination().bug_report().write(path, checks)
        render.reported(report, as_json=as_json)
        _say_if_synced(wiring, report.path)
        return ExitCode.OK
    render.checks(checks, as_json=as_json)
    return ExitCode.OK if all(check.ok for check in checks) else ExitCode.FAILED


def _say_if_synced(wiring: Wiring, path: Path) -> None:
    """Under a name of the user's own it is a file as any. Where no project can be read it is not."""
    with suppress(ColabdevError):
        files = wiring.sync()
        project = files.project()
        within = files.path_in_project(project.path, str(path))
        if project.tree.explain(within).synced == "yes":
            output.progress(f"sync takes {within} along; a line in .colabdevignore keeps it here")


def _check_words(file: Path | None, repair: str | None, bundle: bool) -> None:
    if file is not None and not bundle:
        raise UsageError(
            f"cannot look at {str(file)!r} alone: doctor looks at everything, and only --bundle takes a "
            "file",
            hint="colabdev doctor",
        )
    if repair is not None and bundle:
        raise UsageError("--repair and --bundle are two commands", hint="type one after the other")
