"""The command line's composition root: parses, wires the services together, and runs one command.

Imports stand inside functions here so that `--help` and `status` load nothing they do not need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from colabdev.cli import boundary, doctor, render, runtimes, settings, shell
from colabdev.errors import EXIT_CODE_MEANINGS, AuthNeeded, ColabdevError
from colabdev.version import VERSION

if TYPE_CHECKING:
    from colabdev.adapters.host_entries import SshFiles
    from colabdev.adapters.store import FileStore
    from colabdev.config.places import Places
    from colabdev.config.project import Project
    from colabdev.ports import Provider
    from colabdev.services.doctor import Doctor
    from colabdev.services.plan import ConnectRequest
    from colabdev.services.runtimes import Runtimes

PROVIDERS = ("colab", "notebook", "local", "ssh")

_WAYS_IN = """cannot start a Colab runtime: there is no Google login on this computer. The ways in:
  local      colabdev connect --provider local   a sandbox on this computer, no account
  Google     a login of your own                 not in this version yet
  notebook   one cell that you run in a browser  not in this version yet
  own host   a machine you reach by SSH          not in this version yet"""


class Wiring:
    """Builds what a command asks for, once it asks."""

    def places(self) -> Places:
        from colabdev.config.places import Places

        return Places.from_environment(os.environ)

    @property
    def default_name(self) -> str | None:
        """The runtime named by the environment."""
        return os.environ.get("COLABDEV_NAME") or None

    def runtimes(self) -> Runtimes:
        from colabdev.adapters.broker import LocalKeepers, spawn_keeper
        from colabdev.services.runtimes import Runtimes

        store = self.store()
        environment = {**os.environ, **self.places().variables()}
        return Runtimes(
            store=store,
            provider=self.provider,
            provider_names=("local",),
            keepers=LocalKeepers(store, lambda name: spawn_keeper(name, environment)),
            host_entries=self.host_entries(),
        )

    def store(self) -> FileStore:
        from colabdev.adapters.store import FileStore

        return FileStore(self.places().state_dir)

    def host_entries(self) -> SshFiles:
        from colabdev.adapters.host_entries import SshFiles

        return SshFiles(self.places().ssh_config)

    def provider(self, name: str) -> Provider:
        """The provider of that name, if this version has it."""
        if name == "local":
            from colabdev.providers.local import LocalProvider, find_login

            return LocalProvider(self.places().local_dir, lambda: find_login(os.environ))
        if name == "colab":
            raise AuthNeeded(_WAYS_IN, hint="colabdev connect --provider local")
        raise ColabdevError(
            f"the provider {name!r} is not in this version yet",
            hint="colabdev connect --provider local",
        )

    def connect_request(self, name: str | None, provider: str | None) -> ConnectRequest:
        from colabdev.services.plan import ProjectWishes, plan_connect

        project = self._project()
        wishes = None
        if project is not None:
            wishes = ProjectWishes(path=str(project.path), name=project.path.name)
            if project.has_settings:
                wishes = self._wishes(project)
        return plan_connect(name, provider, wishes, known_providers=PROVIDERS)

    def project_path(self) -> str | None:
        """The folder of the project we stand in, if it is one."""
        project = self._project()
        return str(project.path) if project else None

    def settings_schema(self) -> dict[str, Any]:
        from colabdev.config.settings import settings_schema

        return settings_schema()

    def doctor(self) -> Doctor:
        from colabdev.adapters.processes import ssh_version
        from colabdev.services.doctor import Doctor

        places = self.places()
        return Doctor(
            runtimes=self.runtimes(),
            state_dir=places.state_dir,
            log_dir=places.log_dir,
            ssh_version=ssh_version,
        )

    def become(self, argv: Sequence[str]) -> int:
        """Go on as another program; returns its exit status where that is impossible."""
        from colabdev.adapters.processes import become

        return become(argv)

    def _project(self) -> Project | None:
        from colabdev.config.project import find_project
        from colabdev.errors import UsageError

        try:
            return find_project(_working_directory(), _home())
        except UsageError:
            return None  # Home and roots are no projects; a runtime needs none.

    def _wishes(self, project: Project) -> Any:
        from colabdev.config.settings import load_settings
        from colabdev.services.plan import ProjectWishes

        loaded = load_settings(project.settings_file)
        return ProjectWishes(
            path=str(project.path),
            name=loaded.project.name or project.path.name,
            provider=loaded.runtime.provider,
            tunnel=loaded.runtime.tunnel,
        )


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
    app.command()(runtimes.connect)
    app.command()(runtimes.status)
    app.command(cls=shell.ShellCommand, context_settings=shell.PASS_ON)(shell.ssh)
    app.command()(runtimes.down)
    app.command()(doctor.doctor)
    config = typer.Typer(help="colabdev.toml.", no_args_is_help=True)
    config.command()(settings.schema)
    config.callback()(lambda: None)
    app.add_typer(config, name="config")
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    wiring = Wiring()
    return boundary.run_command(
        lambda: _invoke(arguments, wiring),
        argv=arguments,
        crash_dir=lambda: wiring.places().state_dir / "crash",
    )


def _invoke(arguments: list[str], wiring: Wiring) -> object:
    command = typer.main.get_command(build_app())
    return command.main(args=arguments, prog_name="colabdev", standalone_mode=False, obj=wiring)


def _print_version(wanted: bool) -> None:
    if wanted:
        render.line(f"colabdev {VERSION}")
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
        import logging

        logging.basicConfig(
            level=logging.DEBUG, format="%(relativeCreated)6.0f %(name)s %(message)s"
        )


def _exit_code_table() -> str:
    rows = (f"{int(code)} {meaning}" for code, meaning in EXIT_CODE_MEANINGS.items())
    return "Exit codes: " + "; ".join(rows) + "."


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ColabdevError(
            "the current directory does not exist any more", hint="cd to one that does"
        ) from None


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


if __name__ == "__main__":
    sys.exit(main())
