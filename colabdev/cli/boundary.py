"""Where errors become exit codes: the one place that catches everything."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from colabdev.cli import render
from colabdev.core.redact import redact
from colabdev.errors import ColabdevError, ExitCode, UsageError
from colabdev.version import VERSION


def run_command(
    command: Callable[[], object], *, argv: Sequence[str], crash_dir: Callable[[], Path]
) -> int:
    """Run `command` and return its exit status, having said what went wrong if something did."""
    as_json = wants_json(argv)
    try:
        status = command()
    except ColabdevError as exc:
        render.error(exc, as_json=as_json)
        return int(exc.exit_code)
    except typer.TyperException as exc:
        render.error(_usage_error(exc), as_json=as_json)
        return int(ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        render.interrupted()
        return int(ExitCode.INTERRUPTED)
    except Exception as exc:  # noqa: BLE001  The boundary: what nobody expected is a bug.
        log = _write_crash_log(exc, argv, crash_dir)
        render.error(_Bug(exc, log), as_json=as_json)
        return int(ExitCode.BUG)
    if status == ExitCode.INTERRUPTED:
        render.interrupted()
    return status if isinstance(status, int) else int(ExitCode.OK)


def wants_json(argv: Sequence[str]) -> bool:
    """Whether --json stands among our own options, also when the rest cannot be parsed."""
    ours = argv[: argv.index("--")] if "--" in argv else argv
    return "--json" in ours


class _Bug(ColabdevError):
    """Something nobody expected."""

    exit_code = ExitCode.BUG

    def __init__(self, exc: Exception, log: Path) -> None:
        super().__init__(
            f"colabdev has a bug: {type(exc).__name__}", hint=f"please report it with {log}"
        )


def _usage_error(exc: typer.TyperException) -> ColabdevError:
    context = getattr(exc, "ctx", None)
    path = context.command_path if context is not None else "colabdev"
    return UsageError(exc.format_message(), hint=f"{path} --help")


def _write_crash_log(exc: Exception, argv: Sequence[str], crash_dir: Callable[[], Path]) -> Path:
    """The traceback without values and secrets, where the user can find and paste it."""
    lines = [
        f"colabdev {VERSION}, Python {sys.version.split()[0]}, {sys.platform}",
        f"command: colabdev {' '.join(argv[:1])}",
        "".join(traceback.format_exception(exc)),
    ]
    content = redact("\n".join(lines))
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}.txt"
    try:
        return _write_private(crash_dir(), name, content)
    except (OSError, ColabdevError):
        return _write_private(Path(tempfile.gettempdir()), name, content)


def _write_private(directory: Path, name: str, content: str) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / name
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    return path
