"""`python -m colabdev.keeper NAME`: the keeper's composition root.

Prints one JSON line, `ready` once it listens or the `error` that keeps it from it, then nothing more.
Ends at once when another keeper of the same runtime runs, when it is asked to, when its record is
gone or names another keeper, and when the runtime is lost.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from filelock import Timeout

from colabdev.adapters.agent_archive import build_agent
from colabdev.adapters.agent_client import start_agent
from colabdev.adapters.broker import KeeperClient
from colabdev.adapters.checkpoint_copies import FileCheckpointCopies
from colabdev.adapters.direct_agent import DirectAgent
from colabdev.adapters.giving_back import give_back_by_command
from colabdev.adapters.handshake import KEEPER_VERSION
from colabdev.adapters.host_entries import SshFiles
from colabdev.adapters.job_store import FileJobStore
from colabdev.adapters.keepers import LocalKeepers
from colabdev.adapters.ngrok_use import NgrokUse
from colabdev.adapters.own_hosts import OwnHosts
from colabdev.adapters.ssh import SshConnection
from colabdev.adapters.store import FileStore
from colabdev.adapters.windows_entries import open_host_entries
from colabdev.config.places import Places
from colabdev.config.user_settings import load_user_settings
from colabdev.core.backoff import delays
from colabdev.core.job_records import parse_job_list
from colabdev.core.ngrok_usage import COUNTED, check_transfer
from colabdev.core.sizes import DEFAULT_MAX_SIZE, parse_size
from colabdev.crash_points import crash_point
from colabdev.errors import ColabdevError, RuntimeUnreachable, runtime_lost
from colabdev.keeper.demand import Demand, Funds, Signs
from colabdev.keeper.drive_watch import DriveWatch
from colabdev.keeper.editors import EditorWatch, LogAudience
from colabdev.keeper.entries import EntryFollower
from colabdev.keeper.link import Link, LinkState
from colabdev.keeper.parting import Parting
from colabdev.keeper.server import KeeperServer
from colabdev.keeper.spares import AgentSpares
from colabdev.keeper.tunnel_use import TunnelUse
from colabdev.keeper.tunnels import TunnelHolder
from colabdev.keeper.wiring_tunnels import command_to, find_tunnel
from colabdev.models import (
    ColabTunnel,
    JobState,
    KeeperAddress,
    Phase,
    RuntimeRecord,
    SshAddress,
)
from colabdev.ports import AgentStream, Keepers, Provider
from colabdev.providers.local import LocalProvider, find_login
from colabdev.providers.ssh import SshProvider
from colabdev.services.checkpoint_pull import CheckpointPulls
from colabdev.services.checkpoint_tokens import TokenGiver
from colabdev.services.job_copies import JobCopies
from colabdev.services.job_logs import JobLogs
from colabdev.services.sync import Syncer
from colabdev.services.watch import Watch, Watched

if TYPE_CHECKING:
    from colabdev.adapters.opening import Opener
    from colabdev.providers.colab.client import ColabClient
    from colabdev.providers.colab.keepalive import KeepAlive
    from colabdev.providers.colab.login import GoogleLogin

log = logging.getLogger("colabdev.keeper")

RETRY_FIRST_S = 0.05
RETRY_CAP_S = 0.4
"""Trying to reach a path that is down costs a packet, and nobody counts it; being back at once when
it returns is worth that. Tunnels whose provider counts connections get their own cap."""

TUNNEL_RETRY_FIRST_S = 0.5
TUNNEL_RETRY_CAP_S = 10.0
"""Of the way beside a tunnel: each try is an SSH handshake and an agent."""

PROXY_RETRY_FIRST_S = 0.5
PROXY_RETRY_CAP_S = 15.0
"""Each try by a ProxyCommand is a process here, and most often a login on a jump host."""

RECORD_CHECK_INTERVAL_S = 1.0
ENTRY_TIMEOUT_S = 2.0
_LOG_BYTES = 512 * 1024


def main(name: str) -> int:
    """Be the keeper of `name`."""
    try:
        places = Places.from_environment(os.environ)
        store = FileStore(places.state_dir)
        lock = store.keeper_lock(name)
        with suppress(Timeout), lock.acquire(timeout=0):
            return _keep(name, places, store)
        return 0  # Another keeper holds it: two starters end with one keeper.
    except ColabdevError as exc:
        _tell({"error": exc.to_json()})
        return int(exc.exit_code)
    except Exception:  # The keeper's boundary: nobody reads its stderr.
        log.exception("the keeper ends by a bug")
        bug = ColabdevError("the keeper ended by a bug", hint="colabdev doctor shows its log")
        _tell({"error": bug.to_json()})
        return 70


def _keep(name: str, places: Places, store: FileStore) -> int:
    crash_point("keeper.locked")
    with suppress(OSError):  # Without room for these it keeps the runtime all the same.
        store.write_keeper_pid(name)
        _start_log(places.log_dir, name)
    return _Keeper(name, places, store).run()


def _tell(said: Mapping[str, object]) -> None:
    """One line for the starter, which waits for it, unless it was killed meanwhile."""
    with suppress(OSError):
        os.write(1, json.dumps(said).encode("ascii") + b"\n")
    # The starter waits for this pipe to end, too; nothing of ours may hold it.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.close(silence)


class _Keeper:
    """Wires the keeper's tasks together and decides when they end."""

    def __init__(self, name: str, places: Places, store: FileStore) -> None:
        self._name = name
        self._store = store
        self._places = places
        self._ssh_files = SshFiles(places.ssh_config)
        self._key = secrets.token_bytes(32)
        archive = build_agent()
        self._spares = AgentSpares(lambda connection: start_agent(connection, archive))
        self._link: Link[SshConnection] = Link(
            name,
            connect=self._connect,
            is_gone=self._is_gone,
            delays=self._retry_delays,
            connected=self._spares.use,
        )
        self._server = KeeperServer(self._key, self._link, self._spares)
        self._entry = EntryFollower(
            lambda: store.load(name), open_host_entries(self._ssh_files, os.environ)
        )
        self._record_checked = time.monotonic()
        self._stopping = threading.Event()
        self._is_proxied = False
        self._colab: ColabClient | None = None
        self._kept: KeepAlive | None = None
        self._drive = DriveWatch(look=self._look_at_drive, mend=self._mend_drive)
        self._demand: Demand | None = None
        self._parting = Parting(
            name,
            runtimes=store,
            jobs=FileJobStore(places.state_dir),
            give_back=lambda record: give_back_by_command(record, os.environ, places.log_dir),
        )
        self._server.notice = self._notice
        self._tunnel = TunnelHolder(
            name,
            store,
            reach=lambda there: DirectAgent(self._connect_own_way(there), archive),
            find_tunnel=partial(find_tunnel, places=places),
            changed=self._link.try_now,
        )
        self._tunnel_use = TunnelUse(NgrokUse(places.state_dir).add)

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._server.stop())
        if not self._announce():
            return 0
        holder = threading.Thread(target=self._hold_link, daemon=True)
        holder.start()
        editors = threading.Thread(target=self._watch_for_editors, daemon=True)
        editors.start()
        threading.Thread(target=self._bring_jobs_home, daemon=True).start()
        threading.Thread(target=self._look_after_drive, daemon=True).start()
        threading.Thread(target=self._give_back_in_time, daemon=True).start()
        threading.Thread(target=self._hold_tunnel, daemon=True).start()
        threading.Thread(target=self._pull_checkpoints, daemon=True).start()
        self._entry.start()
        try:
            self._server.run(self._should_go_on)
        finally:
            self._stopping.set()
            self._link.stop()
            self._tunnel_use.note()
            self._entry.stop(ENTRY_TIMEOUT_S)
            crash_point("keeper.ending")
            self._withdraw()
            self._server.farewell()
        log.info("keeper of %s ends", self._name)
        return 0

    def _hold_link(self) -> None:
        try:
            self._link.run()
        except Exception:  # A task's boundary: without its link the keeper is of no use.
            log.exception("bug in the keeper's link")
            self._server.stop()

    def _hold_tunnel(self) -> None:
        first_s, cap_s = TUNNEL_RETRY_FIRST_S, TUNNEL_RETRY_CAP_S
        try:
            self._tunnel.run(
                self._stopping, lambda: delays(first_s=first_s, cap_s=cap_s, random=Random())
            )
        except Exception:  # A task's boundary: a connection by the tunnel may last all the same.
            log.exception("bug while the tunnel was held")

    def _watch_for_editors(self) -> None:
        try:
            # As everybody else, by our own socket.
            keepers = LocalKeepers(self._store, _start_no_other, own=True)
            EditorWatch(self._name, keepers, lambda: self._watches(keepers)).run(self._stopping)
        except Exception:  # A task's boundary: the runtime is to be kept all the same.
            log.exception("bug in the watch for editors")

    def _watches(self, keepers: Keepers) -> Mapping[str, Callable[[], Watch]]:
        """The projects that were synced with this runtime before, and do not forbid it."""
        # Loaded when somebody edits: most keepers need none of it.
        from colabdev.adapters.ignore_files import compile_rules
        from colabdev.adapters.opening import Opener
        from colabdev.config.settings import load_synced_settings

        record = self._store.load(self._name)
        max_bytes = parse_size(DEFAULT_MAX_SIZE)
        state_dir = self._places.state_dir
        opener = Opener(state_dir, compile_rules, load_synced_settings, max_bytes)
        syncer = Syncer(
            store=self._store,
            keepers=keepers,
            computer_id=self._store.computer_id,
            meter=lambda word, done, total: None,
            check_amount=lambda runtime, size_bytes: check_transfer(
                runtime, NgrokUse(self._places.state_dir).read, size_bytes
            ),
        )

        def start(path: str) -> Watch:
            return Watch(
                Watched(runtime=self._name, project=lambda: opener.open(Path(path))),
                syncer=syncer,
                store=self._store,
                keepers=keepers,
                audience=LogAudience(),
            )

        links = record.projects if record else ()
        return {
            link.path: partial(start, link.path)
            for link in links
            if _is_to_be_watched(opener, self._name, Path(link.path))
        }

    def _bring_jobs_home(self) -> None:
        """Ask this very keeper as any client does: so it waits for a connection as they do."""
        keepers = LocalKeepers(self._store, _start_no_other, own=True)
        jobs = FileJobStore(self._places.state_dir)
        logs = JobLogs(runtimes=self._store, keepers=keepers, jobs=jobs)
        copies = JobCopies(self._name, runtimes=self._store, jobs=jobs, logs=logs)
        try:
            copies.run(self._stopping)
        except Exception:  # A task's boundary: without it, jobs come home when they are asked for.
            log.exception("bug while jobs were brought home")

    def _look_after_drive(self) -> None:
        try:
            self._drive.run(self._stopping)
        except Exception:  # A task's boundary: the runtime is of use without.
            log.exception("bug while looking after Drive")

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
        return mend_runtime(self._colab_client(), record.machine.ssh.tunnel.endpoint).aside

    def _give_back_in_time(self) -> None:
        try:
            self._parting.run(self._stopping)
        except Exception:  # A task's boundary: the runtime is to be kept all the same.
            log.exception("bug in giving the runtime back")

    def _notice(self) -> str:
        """Why the runtime stays, or does not stay, otherwise than its user may think; Drive; and what is
        nearly used up."""
        stays = self._parting.notice or (self._demand.notice if self._demand else "")
        return "; ".join(filter(None, (stays, self._drive.notice, self._tunnel_use.warning)))

    def _pull_checkpoints(self) -> None:
        keepers = LocalKeepers(self._store, _start_no_other, own=True)
        jobs = FileJobStore(self._places.state_dir)
        logs = JobLogs(runtimes=self._store, keepers=keepers, jobs=jobs)
        pulls = CheckpointPulls(
            name=self._name,
            runtimes=self._store,
            jobs=jobs,
            copies=FileCheckpointCopies(self._places.state_dir),
            open_agent=lambda: logs.agent(self._name),
            tokens=TokenGiver(self._google_login),
        )
        try:
            pulls.run(self._stopping)
        except Exception:  # A task's boundary: other stores take checkpoints all the same.
            log.exception("bug while checkpoints were brought here")

    def _connect(self) -> SshConnection:
        # Read anew for each try: a tunnel's address changes under the same name.
        record = self._store.load(self._name)
        if record is None or record.machine is None:
            raise RuntimeUnreachable(
                f"{self._name!r} has no address yet", hint=f"colabdev connect {self._name}"
            )
        if record.tunnel is None:
            connection = self._connect_own_way(record.machine.ssh)
        else:
            is_counted = record.tunnel.kind in COUNTED
            connection = self._connect_by_tunnel(record.ssh, is_counted=is_counted)
        crash_point("keeper.linked")
        return connection

    def _connect_by_tunnel(self, address: SshAddress | None, *, is_counted: bool) -> SshConnection:
        self._is_proxied = True
        if address is None:
            raise self._tunnel.unknown_address()
        try:
            connection = SshConnection(address, self._ssh_files.private_key_file)
        except RuntimeUnreachable as exc:
            raise self._tunnel.blame(exc) from exc
        if is_counted:
            self._tunnel_use.begin(connection)
        return connection

    def _connect_own_way(self, address: SshAddress) -> SshConnection:
        """A connection as the provider gives it."""
        self._is_proxied = address.proxy_command is not None or address.tunnel is not None
        if address.tunnel is None:
            return SshConnection(address, self._ssh_files.private_key_file)
        return self._connect_by_colab(address.tunnel)

    def _connect_by_colab(self, tunnel: ColabTunnel) -> SshConnection:
        """A connection to Colab's own SSH server, which lets everybody else in."""
        if not tunnel.host_keys:
            raise RuntimeUnreachable(
                f"{self._name!r} is not set up yet", hint=f"colabdev connect {self._name}"
            )
        from colabdev.providers.colab.tunnel import open_tunnel

        client, public_key = self._colab_client(), self._ssh_files.public_key()
        connection = SshConnection(
            SshAddress(tunnel.endpoint, 22, "root", tunnel.host_keys[0]),
            self._ssh_files.private_key_file,
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
            idle_s=lambda: self._server.idle_s,
            keep_until=lambda: self._keep_until(tunnel),
            max_units=tunnel.max_units,
            has_job=self._has_job,
            funds=self._funds,
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

    def _keep_until(self, tunnel: ColabTunnel) -> datetime:
        """As the record has it now, when it can be read."""
        with suppress(ColabdevError):
            record = self._store.load(self._name)
            known = record.machine.ssh.tunnel if record and record.machine else None
            if known is not None and known.endpoint == tunnel.endpoint:
                return known.keep_until
        return tunnel.keep_until

    def _funds(self) -> Funds:
        account = self._colab_client().account()
        settings = load_user_settings(self._places.config_dir)
        return Funds(account.balance, account.hours_left, settings.accept_free_tier_terms)

    def _own_agent(self) -> AgentStream:
        """An agent for ourselves, which is no use of the runtime."""
        return KeeperClient(self._name, self._address(), own=True).agent()

    def _colab_client(self) -> ColabClient:
        from colabdev.providers.colab.client import ColabClient
        from colabdev.providers.colab.wire import Hosts

        if self._colab is None:
            self._colab = ColabClient(Hosts.from_environment(os.environ), self._google_login())
        return self._colab

    def _google_login(self) -> GoogleLogin:
        from colabdev.providers.colab.login import GoogleLogin
        from colabdev.providers.colab.wire import Hosts

        hosts = Hosts.from_environment(os.environ)
        return GoogleLogin(self._places.config_dir, hosts, os.environ)

    def _retry_delays(self) -> Iterator[float]:
        direct = delays(first_s=RETRY_FIRST_S, cap_s=RETRY_CAP_S, random=Random())
        proxied = delays(first_s=PROXY_RETRY_FIRST_S, cap_s=PROXY_RETRY_CAP_S, random=Random())
        for direct_s, proxied_s in zip(direct, proxied, strict=True):
            yield proxied_s if self._is_proxied else direct_s

    def _connect_trusting(self, address: SshAddress, trusted: Sequence[str]) -> SshConnection:
        return SshConnection(address, self._ssh_files.private_key_file, trusted=trusted)

    def _is_gone(self) -> bool:
        record = self._store.load(self._name)
        if record is None:
            return True
        return self._provider(record.provider).find(self._name) is None

    def _provider(self, name: str) -> Provider:
        if name == "local":
            return LocalProvider(self._places.local_dir, lambda: find_login(os.environ))
        if name == "ssh":
            own_hosts = OwnHosts(self._ssh_files.user_config)
            return SshProvider(self._places.hosts_dir, own_hosts, self._connect_trusting)
        if name == "notebook":
            from colabdev.providers.notebook import NotebookProvider

            return NotebookProvider(self._places.notebooks_dir, self._connect_trusting, command_to)
        if name == "colab":
            from colabdev.providers.colab.notes import Notes
            from colabdev.providers.colab.provider import ColabProvider

            # A keeper starts none, so that nobody need have accepted anything.
            return ColabProvider(
                self._colab_client(),
                Notes(self._places.colab_dir),
                accepts_free_tier_terms=lambda: False,
            )
        raise ColabdevError(f"this keeper knows no provider {name!r}", hint="update colabdev")

    def _address(self) -> KeeperAddress:
        return KeeperAddress(
            pid=os.getpid(), port=self._server.port, key=self._key.hex(), version=KEEPER_VERSION
        )

    def _announce(self) -> bool:
        address = self._address()
        record = self._store.update(self._name, lambda record: replace(record, keeper=address))
        if record is None:
            return False
        crash_point("keeper.announced")
        log.info("keeper of %s, version %s, port %d", self._name, KEEPER_VERSION, self._server.port)
        _tell({"ready": True})
        return True

    def _withdraw(self) -> None:
        lost = self._link.state is LinkState.LOST

        def withdrawn(record: RuntimeRecord) -> RuntimeRecord:
            if record.keeper is None or record.keeper.key != self._key.hex():
                return record
            phase = Phase.LOST if lost and record.phase is not Phase.RELEASING else record.phase
            return replace(record, keeper=None, phase=phase)

        try:
            self._store.update(self._name, withdrawn)
        except ColabdevError as exc:
            log.warning("cannot withdraw from the state file: %s", exc.message)

    def _should_go_on(self) -> bool:
        if self._link.state is LinkState.LOST:
            return False
        if time.monotonic() - self._record_checked < RECORD_CHECK_INTERVAL_S:
            return True
        self._record_checked = time.monotonic()
        self._tunnel_use.note()
        try:
            record = self._store.load(self._name)
        except ColabdevError as exc:
            log.warning("%s", exc.message)
            return True  # Unreadable is not gone.
        return (
            record is not None
            and record.keeper is not None
            and record.keeper.key == self._key.hex()
        )


def _start_no_other(name: str) -> Mapping[str, object]:
    raise RuntimeUnreachable(f"this keeper of {name!r} ends", hint="type the command again")


def _is_to_be_watched(opener: Opener, name: str, path: Path) -> bool:
    try:
        project = opener.open(path)
        return opener.settings(path).watch and project.memory.load(name) is not None
    except ColabdevError as exc:
        log.info("does not watch %s: %s", path, exc.message)
        return False


def _start_log(directory: Path, name: str) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"keeper-{name}.log"
    path.touch(mode=0o600)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.getLogger("paramiko").setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
