"""The command line's composition root: builds what a command asks for, once it asks.

Imports stand inside functions here so that `--help` and `status` load nothing they do not need.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colabdev.cli import standing
from colabdev.errors import ColabdevError

if TYPE_CHECKING:
    from colabdev.adapters.host_entries import SshFiles
    from colabdev.adapters.job_store import FileJobStore
    from colabdev.adapters.keepers import LocalKeepers
    from colabdev.adapters.ngrok_token import NgrokTokens
    from colabdev.adapters.ngrok_use import NgrokUse
    from colabdev.adapters.ssh import SshConnection
    from colabdev.adapters.store import FileStore
    from colabdev.adapters.templates import PackagedTemplates
    from colabdev.cli.wiring_checkpoints import CheckpointWiring
    from colabdev.cli.wiring_colab import ColabWiring
    from colabdev.cli.wiring_doctor import DoctorWiring
    from colabdev.cli.wiring_drive import DriveWiring
    from colabdev.cli.wiring_notebook import NotebookWiring
    from colabdev.cli.wiring_recovery import RecoveryWiring
    from colabdev.cli.wiring_starts import StartWiring
    from colabdev.cli.wiring_sync import SyncWiring
    from colabdev.config.places import Places
    from colabdev.core.notebook_cell import FilledNotebook
    from colabdev.models import SshAddress
    from colabdev.ports import HostEntries, Meter, Provider
    from colabdev.providers.local import LocalProvider
    from colabdev.services.editors import Editors
    from colabdev.services.entries import Entries
    from colabdev.services.forwards import Forwards
    from colabdev.services.glances import Glances
    from colabdev.services.job_logs import JobLogs
    from colabdev.services.jobs import Jobs
    from colabdev.services.known_runtimes import KnownRuntimes
    from colabdev.services.projects import Projects
    from colabdev.services.rehearsal import Rehearsal
    from colabdev.services.releases import Releases
    from colabdev.services.repairs import Repairs
    from colabdev.services.runtimes import Runtimes
    from colabdev.services.web_tools import WebTools

PROXY_TIMEOUT_S = 40.0


class Wiring:
    """Builds what a command, or a program by `colabdev.api`, asks for, once it asks."""

    def __init__(self, meter: Meter | None = None) -> None:
        """`meter` is told how far a transfer is; None: it is shown on stderr."""
        self._meter = meter
        self._notebooks: NotebookWiring | None = None

    def places(self) -> Places:
        from colabdev.config.places import Places

        return Places.from_environment(os.environ)

    def named(self, typed: str | None) -> str | None:
        """The runtime that was typed, else the one that the environment names."""
        return typed if typed is not None else os.environ.get("COLABDEV_NAME") or None

    def known_runtimes(self) -> KnownRuntimes:
        from colabdev.services.known_runtimes import KnownRuntimes

        return KnownRuntimes(self.store())

    def runtimes(self) -> Runtimes:
        from colabdev.services.runtimes import Runtimes

        return Runtimes(
            store=self.store(),
            provider=self.provider,
            keepers=self.keepers(),
            host_entries=self.host_entries(),
            jobs=self.job_store(),
        )

    def releases(self) -> Releases:
        from colabdev.services.releases import Releases

        return Releases(
            store=self.store(),
            provider=self.provider,
            keepers=self.keepers(),
            host_entries=self.host_entries(),
            repairs=self.repairs(),
        )

    def repairs(self) -> Repairs:
        from colabdev.services.repairs import Repairs

        return Repairs(
            store=self.store(),
            provider=self.provider,
            provider_names=("local", "ssh", "colab", "notebook"),
            host_entries=self.host_entries(),
        )

    def glances(self) -> Glances:
        from colabdev.services.glances import Glances

        return Glances(self.keepers())

    def keepers(self) -> LocalKeepers:
        from colabdev.adapters.keepers import LocalKeepers, spawn_keeper

        environment = {**os.environ, **self.places().variables()}
        return LocalKeepers(self.store(), lambda name: spawn_keeper(name, environment))

    def store(self) -> FileStore:
        from colabdev.adapters.store import FileStore

        return FileStore(self.places().state_dir)

    def host_entries(self) -> HostEntries:
        from colabdev.adapters.windows_entries import open_host_entries

        return open_host_entries(self.ssh_files(), os.environ)

    def ssh_files(self) -> SshFiles:
        from colabdev.adapters.host_entries import SshFiles

        return SshFiles(self.places().ssh_config)

    def entries(self) -> Entries:
        from colabdev.services.entries import Entries

        return Entries(
            runtimes=self.runtimes(), entries=self.host_entries(), files=self.ssh_files()
        )

    def editors(self) -> Editors:
        from colabdev.adapters.editors import EditorPrograms
        from colabdev.services.editors import Editors

        return Editors(
            programs=EditorPrograms(os.environ),
            keepers=self.keepers(),
            entries=self.host_entries(),
            files=self.ssh_files(),
        )

    def provider(self, name: str) -> Provider:
        """The provider of that name, if this version has it."""
        if name == "local":
            return self.local_provider()
        if name == "ssh":
            from colabdev.adapters.own_hosts import OwnHosts
            from colabdev.providers.ssh import SshProvider

            own_hosts = OwnHosts(self.ssh_files().user_config)
            return SshProvider(self.places().hosts_dir, own_hosts, self._connect_ssh)
        if name == "colab":
            return self.colab().provider()
        if name == "notebook":
            return self.notebooks().provider()
        raise ColabdevError(
            f"the provider {name!r} is not in this version yet",
            hint="colabdev connect --provider local",
        )

    def notebooks(self) -> NotebookWiring:
        """What has to do with machines that were started in a browser; the same for a whole command."""
        if self._notebooks is None:
            from colabdev.cli.wiring_notebook import NotebookWiring

            self._notebooks = NotebookWiring(self.places(), self._connect_ssh)
        return self._notebooks

    def filled_notebook(self, tunnel: str | None) -> FilledNotebook:
        """The notebook of `notebook`, for this computer."""
        return self.notebooks().fill(
            tunnel,
            public_key=self.host_entries().public_key,
            has_ngrok_token=self.has_ngrok_token,
            check_tunnel=self.check_tunnel,
        )

    def carry_ssh(self, name: str) -> None:
        """Be one SSH connection's way to a runtime behind a tunnel."""
        from colabdev.adapters.stdio import carry_stdio
        from colabdev.core.workdirs import usable_machine

        address = usable_machine(self.known_runtimes().choose(name, None)).ssh
        keeper = self.keepers().ensure(name)
        keeper.wait_ready(PROXY_TIMEOUT_S)
        carry_stdio(keeper.open_tcp(address.host, address.port))

    def colab(self) -> ColabWiring:
        """What has to do with Colab and its account."""
        from colabdev.cli.wiring_colab import ColabWiring

        return ColabWiring(self.places())

    def local_provider(self) -> LocalProvider:
        from colabdev.providers.local import LocalProvider, find_login

        return LocalProvider(self.places().local_dir, lambda: find_login(os.environ))

    def checked_python(self, typed: str) -> str:
        """The version of Python for a local runtime; `UsageError` when it cannot have that."""
        from colabdev.providers.local import checked_python

        return checked_python(typed)

    def check_tunnel(self, kind: str) -> None:
        """Refuse a tunnel that cannot be had, before anything is started for it."""
        if kind == "cloudflared":
            from colabdev.tunnels.cloudflared import find_cloudflared

            find_cloudflared(os.environ)
        else:
            self.ngrok_tokens().token()

    def has_ngrok_token(self) -> bool:
        """Whether the user has given one to colabdev."""
        return self.ngrok_tokens().has_one()

    def ngrok_tokens(self) -> NgrokTokens:
        from colabdev.adapters.ngrok_token import NgrokTokens

        return NgrokTokens(self.places().config_dir, os.environ)

    def check_local_system(self) -> None:
        """Refuse local runtimes where this computer's system cannot have them."""
        from colabdev.providers.local import check_system

        check_system()

    def _connect_ssh(self, address: SshAddress, trusted: Sequence[str]) -> SshConnection:
        from colabdev.adapters.ssh import SshConnection

        return SshConnection(address, self.ssh_files().private_key_file, trusted=trusted)

    def rehearsal(self) -> Rehearsal:
        from colabdev.services.rehearsal import Rehearsal

        return Rehearsal(store=self.store(), provider=self.local_provider())

    def project_path(self) -> str | None:
        """The folder of the project we stand in, if it is one."""
        project = standing.find_own_project()
        return str(project.path) if project else None

    def job_store(self) -> FileJobStore:
        from colabdev.adapters.job_store import FileJobStore

        return FileJobStore(self.places().state_dir)

    def job_logs(self) -> JobLogs:
        from colabdev.services.job_logs import JobLogs

        return JobLogs(runtimes=self.store(), keepers=self.keepers(), jobs=self.job_store())

    def jobs(self) -> Jobs:
        from colabdev.services.jobs import Jobs

        return Jobs(
            runtimes=self.store(),
            keepers=self.keepers(),
            jobs=self.job_store(),
            logs=self.job_logs(),
            attempts=self.recovery().attempts(),
            hand_overs=self.recovery().hand_overs(),
            prices=self.colab().prices(),
        )

    def ngrok_use(self) -> NgrokUse:
        from colabdev.adapters.ngrok_use import NgrokUse

        return NgrokUse(self.places().state_dir)

    def sync(self) -> SyncWiring:
        """What has to do with syncing."""
        from colabdev.cli.wiring_sync import SyncWiring

        return SyncWiring(self, self._meter)

    def drive(self) -> DriveWiring:
        """What has to do with what Drive keeps, and with what comes home before a runtime goes."""
        from colabdev.cli.wiring_drive import DriveWiring

        return DriveWiring(self)

    def checkpoints(self) -> CheckpointWiring:
        """What has to do with checkpoints."""
        from colabdev.cli.wiring_checkpoints import CheckpointWiring

        return CheckpointWiring(self.places(), self.keepers(), self._meter)

    def starts(self) -> StartWiring:
        """What has to do with starting jobs."""
        from colabdev.cli.wiring_starts import StartWiring

        return StartWiring(self)

    def recovery(self) -> RecoveryWiring:
        """What has to do with jobs that go on on other machines."""
        from colabdev.cli.wiring_recovery import RecoveryWiring

        return RecoveryWiring(self)

    def forwards(self) -> Forwards:
        from colabdev.adapters.local_ports import LocalPort
        from colabdev.services.forwards import Forwards

        return Forwards(store=self.store(), keepers=self.keepers(), listen=LocalPort)

    def web_tools(self) -> WebTools:
        from colabdev.core.page_tokens import make_token
        from colabdev.services.web_tools import WebTools

        return WebTools(
            jobs=self.jobs(),
            starter=self.starts().starter(),
            forwards=self.forwards(),
            make_token=lambda *page: make_token(self.ssh_files().private_key(), *page),
        )

    def show_page(self, url: str, *, private: bool) -> bool:
        """Open it in this computer's browser; False when there is none."""
        from colabdev.adapters.browser import open_browser, open_privately

        return (open_privately if private else open_browser)(url, os.environ)

    def templates(self) -> PackagedTemplates:
        from colabdev.adapters.templates import PackagedTemplates

        return PackagedTemplates()

    def projects(self) -> Projects:
        from colabdev.services.projects import Projects

        return Projects(self.templates(), standing.home())

    def absolute(self, path: Path) -> Path:
        """The path from the directory we stand in, without `.` and `..`."""
        return Path(os.path.normpath(standing.working_directory() / path))

    def settings_schema(self) -> dict[str, Any]:
        from colabdev.config.settings import settings_schema

        return settings_schema()

    def examination(self) -> DoctorWiring:
        """What has to do with looking at everything."""
        from colabdev.cli.wiring_doctor import DoctorWiring

        return DoctorWiring(self)

    def become(self, argv: Sequence[str]) -> int:
        """Go on as another program; returns its exit status where that is impossible."""
        from colabdev.adapters.processes import become

        return become(argv)


def log_to_stderr() -> None:
    """What `--verbose` shows."""
    import logging

    logging.basicConfig(level=logging.DEBUG, format="%(relativeCreated)6.0f %(name)s %(message)s")
    for library in ("google", "urllib3"):  # They tell addresses, and some have a token in them.
        logging.getLogger(library).setLevel(logging.INFO)


def log_to_nobody() -> None:
    """Keep from the user what libraries log: Python shows warnings that nobody takes on stderr."""
    import logging

    logging.getLogger().addHandler(logging.NullHandler())
