"""The commands and their help, and running one command line."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Annotated, Any, NamedTuple

import typer

from colabdev.cli import boundary, output
from colabdev.cli.late_validators import build_validators_late
from colabdev.cli.wiring import Wiring, log_to_nobody, log_to_stderr
from colabdev.errors import EXIT_CODE_MEANINGS
from colabdev.version import VERSION

_WITH_A_JOBS_STATUS = ("run", "attach")


class _Command(NamedTuple):
    """Where a command's function stands, and what it needs beside its name."""

    module: str
    function: str
    options: Callable[[Any], Mapping[str, Any]] = lambda module: {}
    """Told the module."""


_COMMANDS: Mapping[str, _Command] = {
    "init": _Command("projects", "init"),
    "connect": _Command("runtimes", "connect"),
    "notebook": _Command("notebook", "notebook"),
    "status": _Command("runtimes", "status"),
    "sync": _Command("sync", "sync"),
    "restore": _Command("restore", "restore"),
    "run": _Command("run", "run", lambda run: {"cls": run.RunCommand}),
    "attach": _Command("jobs", "attach"),
    "ps": _Command("jobs", "ps"),
    "logs": _Command("jobs", "logs"),
    "stop": _Command("jobs", "stop"),
    "ssh": _Command(
        "shell", "ssh", lambda shell: {"cls": shell.ShellCommand, "context_settings": shell.PASS_ON}
    ),
    "code": _Command("editors", "code"),
    "forward": _Command("forwards", "forward"),
    "tensorboard": _Command("forwards", "tensorboard"),
    "jupyter": _Command("forwards", "jupyter"),
    "down": _Command("runtimes", "down"),
    "proxy": _Command("proxy", "proxy", lambda proxy: {"hidden": True}),
    "doctor": _Command("doctor", "doctor"),
}


class _Group(NamedTuple):
    """Commands of one noun: where their functions stand, each with its name."""

    help: str
    module: str
    functions: Mapping[str, str]


_GROUPS: Mapping[str, _Group] = {
    "local": _Group("Runtimes on this computer.", "local", {"kill": "kill"}),
    "checkpoints": _Group(
        "Checkpoints of jobs, and how safe they are.",
        "checkpoints",
        {name: name for name in ("ls", "verify", "pull", "push", "prune", "restore")},
    ),
    "data": _Group("Data sets on Drive.", "data", {"push": "push", "pull": "pull", "ls": "ls"}),
    "ssh-config": _Group(
        "The host entries for ssh and editors.",
        "ssh_config",
        {"print": "print_", "repair": "repair", "remove": "remove"},
    ),
    "auth": _Group(
        "The Google login, and the ngrok token.",
        "auth",
        {name: name for name in ("login", "status", "logout", "ngrok", "terms")},
    ),
    "config": _Group("colabdev.toml.", "settings", {"schema": "schema"}),
}


def build_app(meant: str | None = None) -> typer.Typer:
    """The commands and their help. With the name of the one that is meant only that one: to load and to
    build all of them takes longer than most of what is typed."""
    app = typer.Typer(
        name="colabdev",
        no_args_is_help=True,
        help="A Google Colab GPU as a machine you develop on from your own editor and terminal.",
        epilog=_exit_code_table(),
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    is_one = meant in _COMMANDS or meant in _GROUPS
    for name, command in _COMMANDS.items():
        if not is_one or name == meant:
            module = _load(command.module)
            app.command(name, **command.options(module))(getattr(module, command.function))
    for name, group in _GROUPS.items():
        if not is_one or name == meant:
            app.add_typer(_build_group(group), name=name)
    return app


def _build_group(group: _Group) -> typer.Typer:
    module = _load(group.module)
    built = typer.Typer(help=group.help, no_args_is_help=True)
    built.callback()(lambda: None)  # A group stays one, also when it has a single command.
    for name, function in group.functions.items():
        built.command(name)(getattr(module, function))
    return built


def _load(module: str) -> ModuleType:
    return importlib.import_module(f"colabdev.cli.{module}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    # A shell can close them (`>&-`): what is written then goes nowhere, and nothing fails.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  Open as long as we run.
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names may be no text at all; whatever the locale, showing one must not fail.
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    wiring = Wiring()
    return boundary.run_command(
        lambda: _invoke(arguments, wiring),
        argv=arguments,
        crash_dir=lambda: wiring.places().state_dir / "crash",
        beside_a_job=_command_word(arguments) in _WITH_A_JOBS_STATUS,
    )


def _command_word(arguments: Sequence[str]) -> str | None:
    """The command that was typed; the options before it are all flags."""
    return next((word for word in arguments if not word.startswith("-")), None)


def _invoke(arguments: list[str], wiring: Wiring) -> object:
    build_validators_late()
    command = typer.main.get_command(build_app(meant=next(iter(arguments), None)))
    try:
        return command.main(args=arguments, prog_name="colabdev", standalone_mode=False, obj=wiring)
    except SystemExit:
        return None  # How the library that prints the help leaves when nobody reads on.
    except OSError as exc:
        if not _is_of_help(exc):
            raise
        output.drop(sys.stdout)
        raise output.OutputLost(
            f"cannot write the help: {exc}", hint="make room there, or let it go elsewhere"
        ) from exc


def _is_of_help(exc: OSError) -> bool:
    """Whether the library that prints the help met it while it did."""
    frames = traceback.walk_tb(exc.__traceback__)
    return any(frame.f_code.co_name == "get_help" for frame, _ in frames)


def _print_version(wanted: bool) -> None:
    if wanted:
        output.line(f"colabdev {VERSION}")
        raise typer.Exit


def _global_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say what happens inside.")] = False,
) -> None:
    if verbose:
        log_to_stderr()
    else:
        log_to_nobody()


def _exit_code_table() -> str:
    rows = (f"{int(code)} {meaning}" for code, meaning in EXIT_CODE_MEANINGS.items())
    return "Exit codes: " + "; ".join(rows) + "."
