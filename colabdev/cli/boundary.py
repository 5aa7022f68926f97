"""Where errors become exit codes: the one place that catches everything."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from colabdev.cli import output
from colabdev.core.redact import redact
from colabdev.errors import ColabdevError, ConflictsLeft, ExitCode, UsageError
from colabdev.version import VERSION


class JobStatus(int):
    """An exit status that says it all, a job's own or that of a reader who left: we add nothing."""


OURS_BESIDE_A_JOB = 125
"""The exit status of everything of ours in a command that ends with a job's own."""


def run_command(
    command: Callable[[], object],
    *,
    argv: Sequence[str],
    crash_dir: Callable[[], Path],
    beside_a_job: bool = False,
) -> int:
    """Run `command` and return its exit status, having said what went wrong if something did.

    `beside_a_job`: it ends with a job's status, so every failure of ours must be told from that.
    """
    status = _run(
        command, argv=argv, crash_dir=crash_dir, as_json=not beside_a_job and wants_json(argv)
    )
    if beside_a_job and not isinstance(status, JobStatus) and status != ExitCode.INTERRUPTED:
        return OURS_BESIDE_A_JOB if status else int(ExitCode.OK)
    return status


def _run(
    command: Callable[[], object],
    *,
    argv: Sequence[str],
    crash_dir: Callable[[], Path],
    as_json: bool,
) -> int:
    try:
        status = command()
    except ConflictsLeft as exc:
        _report(exc, as_json)
        return JobStatus(exc.exit_code)  # Also beside a job: scripts have something to do about it.
    except ColabdevError as exc:
        _report(exc, as_json)
        return int(exc.exit_code)
    except typer.TyperException as exc:
        _report(_usage_error(exc), as_json)
        return int(ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        output.interrupted()
        return int(ExitCode.INTERRUPTED)
    except Exception as exc:  # noqa: BLE001  The boundary: what nobody expected is a bug.
        log = _write_crash_log(exc, argv, crash_dir)
        _report(_Bug(exc, log), as_json)
        return int(ExitCode.BUG)
    if status == ExitCode.INTERRUPTED and not isinstance(status, JobStatus):
        output.interrupted()
    return status if isinstance(status, int) else int(ExitCode.OK)


def wants_json(argv: Sequence[str]) -> bool:
    """Whether --json stands among our own options, also when the rest cannot be parsed."""
    ours = argv[: argv.index("--")] if "--" in argv else argv
    return "--json" in ours


def _report(error: ColabdevError, as_json: bool) -> None:
    """Say it where it can be said: what stdout did not take goes to stderr."""
    try:
        output.error(error, as_json=as_json and not isinstance(error, output.OutputLost))
    except output.OutputLost:
        output.error(error, as_json=False)


class _Bug(ColabdevError):
    """Something nobody expected."""

    exit_code = ExitCode.BUG

    def __init__(self, exc: Exception, log: Path | None) -> None:
        where = log or "what you typed; its log could not be written"
        super().__init__(
            f"colabdev has a bug: {type(exc).__name__}", hint=f"please report it with {where}"
        )


def _usage_error(exc: typer.TyperException) -> ColabdevError:
    context = getattr(exc, "ctx", None)
    path = context.command_path if context is not None else "colabdev"
    return UsageError(exc.format_message() or "no command was given", hint=f"{path} --help")


def _write_crash_log(
    exc: Exception, argv: Sequence[str], crash_dir: Callable[[], Path]
) -> Path | None:
    """The traceback without values and secrets, where the user can find and paste it."""
    lines = [
        f"colabdev {VERSION}, Python {sys.version.split()[0]}, {sys.platform}",
        f"command: colabdev {' '.join(argv[:1])}",
        "".join(traceback.format_exception(exc)),
    ]
    content = redact("\n".join(lines))
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}.txt"
    for place in (crash_dir, lambda: Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError, ColabdevError):
            return _write_private(place(), name, content)
    return None


def _write_private(directory: Path, name: str, content: str) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / name
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    return path
