"""The commands and their help, and running one command line."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.models import CommandInfo

from colabdev.cli import (
    auth,
    boundary,
    checkpoints,
    data,
    doctor,
    editors,
    forwards,
    jobs,
    local,
    notebook,
    output,
    projects,
    proxy,
    restore,
    run,
    runtimes,
    settings,
    shell,
    ssh_config,
    sync,
)
from colabdev.cli.late_validators import build_validators_late
from colabdev.cli.wiring import Wiring, log_to_nobody, log_to_stderr
from colabdev.errors import EXIT_CODE_MEANINGS
from colabdev.version import VERSION

_WITH_A_JOBS_STATUS = ("run", "attach")


def build_app() -> typer.Typer:
    """The commands and their help."""
    app = typer.Typer(
        name="colabdev",
        no_args_is_help=True,
        help="A Google Colab GPU as a machine you develop on from your own editor and terminal.",
        epilog=_exit_code_table(),
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    app.command()(projects.init)
    app.command()(runtimes.connect)
    app.command()(notebook.notebook)
    app.command()(runtimes.status)
    app.command()(sync.sync)
    app.command()(restore.restore)
    app.command(cls=run.RunCommand)(run.run)
    app.command()(jobs.attach)
    app.command()(jobs.ps)
    app.command()(jobs.logs)
    app.command()(jobs.stop)
    app.command(cls=shell.ShellCommand, context_settings=shell.PASS_ON)(shell.ssh)
    app.command()(editors.code)
    app.command()(forwards.forward)
    app.command()(forwards.tensorboard)
    app.command()(forwards.jupyter)
    app.command()(runtimes.down)
    app.command(hidden=True)(proxy.proxy)
    app.command()(doctor.doctor)
    rehearsals = typer.Typer(help="Runtimes on this computer.", no_args_is_help=True)
    rehearsals.command()(local.kill)
    rehearsals.callback()(lambda: None)
    app.add_typer(rehearsals, name="local")
    saved = typer.Typer(help="Checkpoints of jobs, and how safe they are.", no_args_is_help=True)
    for about_saved in (
        *(checkpoints.ls, checkpoints.verify, checkpoints.pull),
        *(checkpoints.push, checkpoints.prune, checkpoints.restore),
    ):
        saved.command()(about_saved)
    app.add_typer(saved, name="checkpoints")
    sets = typer.Typer(help="Data sets on Drive.", no_args_is_help=True)
    sets.command()(data.push)
    sets.command()(data.pull)
    sets.command()(data.ls)
    app.add_typer(sets, name="data")
    host_entries = typer.Typer(help="The host entries for ssh and editors.", no_args_is_help=True)
    host_entries.command("print")(ssh_config.print_)
    host_entries.command()(ssh_config.repair)
    host_entries.command()(ssh_config.remove)
    app.add_typer(host_entries, name="ssh-config")
    logins = typer.Typer(help="The Google login, and the ngrok token.", no_args_is_help=True)
    for command in (auth.login, auth.status, auth.logout, auth.ngrok, auth.terms):
        logins.command()(command)
    app.add_typer(logins, name="auth")
    config = typer.Typer(help="colabdev.toml.", no_args_is_help=True)
    config.command()(settings.schema)
    config.callback()(lambda: None)
    app.add_typer(config, name="config")
    return app


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
    command = typer.main.get_command(_only_meant(build_app(), arguments))
    try:
        return command.main(args=arguments, prog_name="colabdev", standalone_mode=False, obj=wiring)
    except SystemExit:
        return None  # How the library that prints the help leaves when nobody reads on.


def _only_meant(app: typer.Typer, arguments: Sequence[str]) -> typer.Typer:
    """Without the commands that are not meant, when that is clear from the first word: to build all of
    them takes longer than most of what is typed."""
    meant = [command for command in app.registered_commands if arguments[:1] == [_name(command)]]
    if meant:
        app.registered_commands, app.registered_groups = meant, []
    return app


def _name(command: CommandInfo) -> str:
    assert command.callback is not None, "each has a function"
    return command.name or typer.main.get_command_name(command.callback.__name__)


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
