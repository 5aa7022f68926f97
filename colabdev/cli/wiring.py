"""The command line's composition root: builds what a command asks for, once it asks.

Imports stand inside functions here so that `--help` and `status` load nothing they do not need.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colabdev.cli import standing
from colabdev.errors import ColabdevError, UsageError

if TYPE_CHECKING:
    from colabdev.adapters.host_entries import SshFiles
    from colabdev.adapters.job_store import FileJobStore
    from colabdev.adapters.keepers import LocalKeepers
    from colabdev.adapters.ngrok_token import NgrokTokens
    from colabdev.adapters.ngrok_use import NgrokUse
    from colabdev.adapters.opening import Opener
    from colabdev.adapters.ssh import SshConnection
    from colabdev.adapters.store import FileStore
    from colabdev.adapters.templates import PackagedTemplates
    from colabdev.agent.rules import Rule
    from colabdev.cli.wiring_checkpoints import CheckpointWiring
    from colabdev.cli.wiring_colab import ColabWiring
    from colabdev.cli.wiring_notebook import NotebookWiring
    from colabdev.cli.wiring_recovery import RecoveryWiring
    from colabdev.config.places import Places
    from colabdev.core.notebook_cell import FilledNotebook
    from colabdev.core.reconcile import Mode
    from colabdev.models import RuntimeRecord, SshAddress, SyncedSettings
    from colabdev.ports import HostEntries, Meter, Progress, Provider, SyncedProject, WindowsSide
    from colabdev.providers.local import LocalProvider
    from colabdev.services.archives import Archives
    from colabdev.services.bug_report import BugReport
    from colabdev.services.datasets import DataSets
    from colabdev.services.doctor import Doctor
    from colabdev.services.editors import Editors
    from colabdev.services.entries import Entries
    from colabdev.services.exchange import SyncOptions
    from colabdev.services.forwards import Forwards
    from colabdev.services.glances import Glances
    from colabdev.services.homecoming import Homecoming
    from colabdev.services.job_logs import JobLogs
    from colabdev.services.job_secrets import SecretSources
    from colabdev.services.jobs import Jobs
    from colabdev.services.known_runtimes import KnownRuntimes
    from colabdev.services.on_demand import OnDemand
    from colabdev.services.projects import Projects
    from colabdev.services.rehearsal import Rehearsal
    from colabdev.services.releases import Releases
    from colabdev.services.repairs import Repairs
    from colabdev.services.runtimes import Runtimes
    from colabdev.services.safekeeping import Safekeeping
    from colabdev.services.starts import JobStarter
    from colabdev.services.sync import ProjectCode, Syncer
    from colabdev.services.watch import Watch
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
        )

    def job_starter(self) -> JobStarter:
        from colabdev.services.starts import JobStarter

        return JobStarter(
            choose=self.known_runtimes().choose,
            jobs=self.job_store(),
            logs=self.job_logs(),
            attempts=self.recovery().attempts(),
            code=self.project_code(),
            plans=self.recovery().plans(),
        )

    def recovery(self) -> RecoveryWiring:
        """What has to do with jobs that go on on other machines."""
        from colabdev.cli.wiring_recovery import RecoveryWiring

        return RecoveryWiring(self)

    def secret_sources(self) -> SecretSources:
        from colabdev.adapters.secrets import ask_keyring
        from colabdev.cli.terminal import ask_secret
        from colabdev.services.job_secrets import SecretSources

        return SecretSources(ask_keyring, os.environ, ask_secret)

    def env_file(self, typed: Path) -> dict[str, str]:
        from colabdev.adapters.env_files import read_env_file

        return read_env_file(self.absolute(typed))

    def on_demand(self) -> OnDemand:
        from colabdev.cli.requests import connect_request, hardware_wish
        from colabdev.services.on_demand import OnDemand

        return OnDemand(
            runtimes=self.runtimes(),
            releases=self.releases(),
            store=self.store(),
            provider=self.provider,
            plan=lambda name, provider, gpu: connect_request(
                self, name, provider, None, None, hardware_wish(gpu)
            ),
            jobs=self.jobs(),
        )

    def project_code(self) -> ProjectCode:
        from colabdev.core.sizes import DEFAULT_MAX_SIZE, parse_size
        from colabdev.services.sync import ProjectCode

        max_bytes = parse_size(DEFAULT_MAX_SIZE)
        return ProjectCode(self.syncer(), lambda: self.synced_project(max_bytes))

    def syncer(self) -> Syncer:
        from colabdev.cli import output
        from colabdev.services.sync import Syncer

        store = self.store()
        return Syncer(
            store=store,
            keepers=self.keepers(),
            computer_id=store.computer_id,
            meter=self._meter or output.Meter(),
            check_amount=self.check_amount,
        )

    def check_amount(self, runtime: RuntimeRecord, size_bytes: int) -> None:
        """Raise when so many bytes are not to go to that runtime unasked."""
        from colabdev.core.ngrok_usage import check_transfer

        check_transfer(runtime, self.ngrok_use().read, size_bytes)

    def ngrok_use(self) -> NgrokUse:
        from colabdev.adapters.ngrok_use import NgrokUse

        return NgrokUse(self.places().state_dir)

    def path_in_project(self, project: str, typed: str) -> str:
        """What was typed, from the directory we stand in, as a path in the project."""
        path = os.path.relpath(self.absolute(Path(typed)), project).replace(os.sep, "/")
        if path in (".", "..") or path.startswith("../") or os.path.isabs(path):
            raise UsageError(
                f"{typed!r} is no file or folder inside the project {project}",
                hint="name something below it",
            )
        return path

    def sync_mode(self, prefer: str | None, *, one_way: bool, mirror: bool) -> Mode:
        from colabdev.core.reconcile import choose_mode

        return choose_mode(prefer, one_way=one_way, mirror=mirror)

    def sync_options(self, mode: Mode, *, dry_run: bool, force: bool) -> SyncOptions:
        from colabdev.services.exchange import SyncOptions

        return SyncOptions(dry_run=dry_run, force=force, mode=mode)

    def synced_project(self, max_bytes: int) -> SyncedProject:
        """The project we stand in, which there must be."""
        return self.opener(max_bytes).open(standing.own_project().path)

    def opener(self, max_bytes: int) -> Opener:
        from colabdev.adapters.opening import Opener

        return Opener(self.places().state_dir, _compile_rules, _load_synced_settings, max_bytes)

    def watch(
        self, record: RuntimeRecord, project: SyncedProject, mode: Mode, *, as_json: bool
    ) -> Watch:
        """Keeps that project and the runtime in step, and says so."""
        from colabdev.cli.render_watch import WatchAsJson, WatchInWords
        from colabdev.services.exchange import SyncOptions
        from colabdev.services.watch import Watch, Watched

        opener, path = self.opener(project.max_bytes), Path(project.path)
        return Watch(
            Watched(
                runtime=record.name,
                project=lambda: opener.open(path),
                options=SyncOptions(mode=mode, outputs=False),
            ),
            syncer=self.syncer(),
            store=self.store(),
            keepers=self.keepers(),
            audience=WatchAsJson() if as_json else WatchInWords(),
        )

    def homecoming(self, *, ends_jobs: bool = True) -> Homecoming:
        """`ends_jobs`: none of the runtime's jobs goes on elsewhere after that."""
        from colabdev.core.sizes import DEFAULT_MAX_SIZE, parse_size
        from colabdev.services.homecoming import Homecoming
        from colabdev.services.recovery_cases import end_consents

        jobs, store = self.job_store(), self.store()

        opener = self.opener(parse_size(DEFAULT_MAX_SIZE))
        return Homecoming(
            keepers=self.keepers(),
            syncer=self.syncer(),
            open_project=lambda path: opener.open(Path(path)),
            safekeeping=self.safekeeping(),
            logs=self.job_logs(),
            checkpoints=self.checkpoints().safety(),
            flush=self._flush_mount,
            end_jobs=lambda name: end_consents(jobs, store, name) if ends_jobs else None,
        )

    def _flush_mount(self, runtime: RuntimeRecord, progress: Progress, *, force: bool) -> None:
        if runtime.provider == "colab":
            self.colab().provider().flush(runtime.name, progress, force=force)
        if runtime.provider == "notebook":
            self.notebooks().provider().flush(runtime.name, progress, force=force)

    def safekeeping(self) -> Safekeeping:
        from colabdev.services.safekeeping import Safekeeping

        return Safekeeping(self.keepers())

    def archives(self) -> Archives:
        from colabdev.adapters.restoring import open_restore_target
        from colabdev.services.archives import Archives

        return Archives(self.keepers(), open_restore_target)

    def checkpoints(self) -> CheckpointWiring:
        """What has to do with checkpoints."""
        from colabdev.cli.wiring_checkpoints import CheckpointWiring

        return CheckpointWiring(self.places(), self.keepers(), self._meter)

    def data_sets(self, *, force: bool = False) -> DataSets:
        """`force`: also much through what counts it."""
        from colabdev.adapters.packing import open_data_folder
        from colabdev.services.datasets import DataSets

        if force:
            return DataSets(self.keepers(), open_data_folder)
        return DataSets(self.keepers(), open_data_folder, self.check_amount)

    def forwards(self) -> Forwards:
        from colabdev.adapters.local_ports import LocalPort
        from colabdev.services.forwards import Forwards

        return Forwards(store=self.store(), keepers=self.keepers(), listen=LocalPort)

    def web_tools(self) -> WebTools:
        from colabdev.core.page_tokens import make_token
        from colabdev.services.web_tools import WebTools

        return WebTools(
            jobs=self.jobs(),
            starter=self.job_starter(),
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

    def doctor(self) -> Doctor:
        from colabdev.adapters.computer import ThisComputer
        from colabdev.adapters.windows import is_beside_windows
        from colabdev.services.doctor import Doctor, Surroundings
        from colabdev.services.runtime_checks import RuntimeChecks

        places, store, runtimes, computer = (
            self.places(),
            self.store(),
            self.runtimes(),
            ThisComputer(),
        )
        here = Surroundings(
            computer=computer,
            entries=self.ssh_files(),
            state_dir=places.state_dir,
            config_dir=places.config_dir,
            windows=self.windows_side if is_beside_windows(os.environ) else None,
        )
        runtime_checks = RuntimeChecks(
            store=store,
            runtimes=runtimes,
            keepers=self.keepers(),
            computer=computer,
            log_dir=places.log_dir,
        )
        return Doctor(
            here=here,
            store=store,
            runtimes=runtimes,
            repairs=self.repairs(),
            runtime_checks=runtime_checks,
        )

    def windows_side(self) -> WindowsSide:
        from colabdev.adapters.windows import find_windows_home
        from colabdev.adapters.windows_entries import WindowsEntries

        key_file = self.ssh_files().private_key_file
        return WindowsEntries(find_windows_home(os.environ), key_file, os.environ)

    def bug_report(self) -> BugReport:
        from colabdev.adapters.report_files import ReportFiles
        from colabdev.services.bug_report import BugReport

        places = self.places()
        files = ReportFiles(places.state_dir, self.ssh_files())
        return BugReport(
            files=files, environment=os.environ, home=standing.home(), store=self.store()
        )

    def become(self, argv: Sequence[str]) -> int:
        """Go on as another program; returns its exit status where that is impossible."""
        from colabdev.adapters.processes import become

        return become(argv)


def _compile_rules(lines: Iterable[str]) -> list[Rule]:
    from colabdev.adapters.ignore_files import compile_rules

    return compile_rules(lines)


def _load_synced_settings(file: Path) -> SyncedSettings:
    from colabdev.config.settings import load_synced_settings

    return load_synced_settings(file)


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
