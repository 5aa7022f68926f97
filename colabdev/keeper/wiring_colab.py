"""The part of the keeper's composition root that is for Colab's runtimes: reaching one, keeping it alive
while it is used, and its Drive mounted. Google's libraries are loaded for these only."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime
from typing import TYPE_CHECKING

from colabdev.adapters.host_entries import SshFiles
from colabdev.adapters.job_store import FileJobStore
from colabdev.adapters.recovery_store import FileRecoveryStore
from colabdev.adapters.ssh import SshConnection
from colabdev.adapters.store import FileStore
from colabdev.config.places import Places
from colabdev.core.job_records import parse_job_list
from colabdev.errors import ColabdevError, RuntimeUnreachable, StateUnreadable, runtime_lost
from colabdev.keeper.demand import Demand, Funds, Signs
from colabdev.keeper.drive_watch import DriveWatch
from colabdev.models import ColabTunnel, JobState, Phase, SshAddress
from colabdev.ports import AgentStream, Provider
from colabdev.services.agreed_costs import find_overspent

if TYPE_CHECKING:
    from colabdev.providers.colab.client import ColabClient
    from colabdev.providers.colab.keepalive import KeepAlive
    from colabdev.providers.colab.login import GoogleLogin

log = logging.getLogger(__name__)


class ColabSide:
    """What the keeper of `name` has to do with Google."""

    def __init__(
        self,
        name: str,
        places: Places,
        store: FileStore,
        *,
        own_agent: Callable[[], AgentStream],
        idle_s: Callable[[], float],
    ) -> None:
        """`own_agent` opens one that is no use of the runtime; `idle_s`: since when nobody used it."""
        self._name = name
        self._places = places
        self._store = store
        self._own_agent = own_agent
        self._idle_s = idle_s
        self.have_saved: Callable[[], bool] = lambda: True
        """Whether the runtime's jobs have, since `is_unpaid`."""
        self._client: ColabClient | None = None
        self._kept: KeepAlive | None = None
        self._demand: Demand | None = None
        self.drive = DriveWatch(look=self._look_at_drive, mend=self._mend_drive)

    @property
    def notice(self) -> str:
        """Why the runtime is not kept alive as its user may think."""
        return self._demand.notice if self._demand else ""

    def funds_end(self) -> datetime | None:
        """When the account cannot pay the runtime any more, as far as that is known."""
        return self._demand.funds_end() if self._demand else None

    def is_unpaid(self) -> bool:
        """Whether what the runtime may cost is used up."""
        return self._demand is not None and self._demand.is_unpaid

    @property
    def was_let_go(self) -> str:
        """Why the runtime was let go before its time; "" when it was not."""
        return self._demand.let_go if self._demand else ""

    def login(self) -> GoogleLogin:
        """The user's login at Google."""
        from colabdev.providers.colab.login import GoogleLogin
        from colabdev.providers.colab.wire import Hosts

        hosts = Hosts.from_environment(os.environ)
        return GoogleLogin(self._places.config_dir, hosts, os.environ)

    def provider(self) -> Provider:
        """Where Colab's runtimes come from."""
        from colabdev.providers.colab.notes import Notes
        from colabdev.providers.colab.provider import ColabProvider

        # A keeper starts none, so that nobody need have accepted anything.
        return ColabProvider(
            self._open_client(),
            Notes(self._places.colab_dir),
            accepts_free_tier_terms=lambda: False,
        )

    def connect(self, tunnel: ColabTunnel, ssh_files: SshFiles) -> SshConnection:
        """A connection to Colab's own SSH server, which lets everybody else in; from then on the
        runtime is kept alive."""
        if not tunnel.host_keys:
            raise RuntimeUnreachable(
                f"{self._name!r} is not set up yet", hint=f"colabdev connect {self._name}"
            )
        from colabdev.providers.colab.tunnel import open_tunnel

        client, public_key = self._open_client(), ssh_files.public_key()
        connection = SshConnection(
            SshAddress(tunnel.endpoint, 22, "root", tunnel.host_keys[0]),
            ssh_files.private_key_file,
            trusted=tunnel.host_keys,
            open_socket=lambda: open_tunnel(client, tunnel, public_key),
        )
        self._keep_alive(client, tunnel)
        return connection

    def _keep_alive(self, client: ColabClient, tunnel: ColabTunnel) -> None:
        """Hold the kernel's websocket of the runtime that we are connected to, while it is used."""
        from colabdev.providers.colab.keepalive import KeepAlive

        endpoint = tunnel.endpoint
        if self._kept is not None and self._kept.endpoint == endpoint and self._kept.is_running:
            return
        if self._kept is not None:
            self._kept.stop()
        signs = Signs(
            idle_s=self._idle_s,
            keep_until=lambda: self._known(tunnel).keep_until,
            has_ttl=lambda: self._known(tunnel).gives_back,
            max_units=tunnel.max_units,
            has_job=self._has_job,
            funds=self._funds,
            overspent=self._overspent,
            have_saved=self.have_saved,
        )
        self._demand = Demand(signs)
        self._kept = KeepAlive(client, endpoint, is_wanted=self._demand.is_wanted)
        self._kept.start()

    def _has_job(self) -> bool:
        """Whether a job runs there."""
        with closing(self._own_agent()) as agent:
            answer, _ = agent.request("job.list")
        rows = parse_job_list(answer).rows.values()
        return any(not JobState(str(row["state"])).is_end for row in rows)

    def _known(self, tunnel: ColabTunnel) -> ColabTunnel:
        """As the record has it now, when it can be read."""
        with suppress(ColabdevError):
            record = self._store.load(self._name)
            known = record.machine.ssh.tunnel if record and record.machine else None
            if known is not None and known.endpoint == tunnel.endpoint:
                return known
        return tunnel

    def _funds(self) -> Funds:
        from colabdev.config.user_settings import load_user_settings

        account = self._open_client().account()
        settings = load_user_settings(self._places.config_dir)
        return Funds(account.balance, account.hours_left, settings.accept_free_tier_terms)

    def _overspent(self, balance: float) -> str:
        state_dir = self._places.state_dir
        try:
            job = find_overspent(
                FileJobStore(state_dir), FileRecoveryStore(state_dir), self._name, balance
            )
        except StateUnreadable as exc:
            log.warning("%s", exc.message)
            return ""
        return job.id if job else ""

    def _look_at_drive(self) -> str:
        """How it is mounted; where nobody mounted it there is nothing to mend."""
        record = self._store.load(self._name)
        machine = record.machine if record and record.phase is Phase.UP else None
        if machine is None or machine.drive_dir is None or machine.ssh.tunnel is None:
            return "mounted"
        with closing(self._own_agent()) as agent:
            return str(agent.request("drive.look")[0]["state"])

    def _mend_drive(self) -> str:
        """Mount it again; returns the folder with what was written in its place."""
        from colabdev.providers.colab.drive import mend_runtime

        record = self._store.load(self._name)
        if record is None or record.machine is None or record.machine.ssh.tunnel is None:
            raise runtime_lost(self._name)
        return mend_runtime(self._open_client(), record.machine.ssh.tunnel.endpoint).aside

    def _open_client(self) -> ColabClient:
        from colabdev.providers.colab.client import ColabClient
        from colabdev.providers.colab.wire import Hosts

        if self._client is None:
            self._client = ColabClient(Hosts.from_environment(os.environ), self.login())
        return self._client
