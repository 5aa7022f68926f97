"""`python -m colabdev.keeper NAME`: the keeper's composition root.

Prints one JSON line, `ready` once it listens or the `error` that keeps it from it, then nothing more.
Ends at once when another keeper of the same runtime runs, when it is asked to, when its record is
gone or names another keeper, and when the runtime is lost and none of its jobs may go on elsewhere.
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
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from filelock import Timeout

from colabdev.adapters.agent_archive import build_agent
from colabdev.adapters.agent_client import start_agent
from colabdev.adapters.broker import KeeperClient
from colabdev.adapters.direct_agent import DirectAgent
from colabdev.adapters.giving_back import give_back_by_command
from colabdev.adapters.handshake import KEEPER_VERSION
from colabdev.adapters.host_entries import SshFiles
from colabdev.adapters.job_store import FileJobStore
from colabdev.adapters.ngrok_use import NgrokUse
from colabdev.adapters.own_hosts import OwnHosts
from colabdev.adapters.ssh import SshConnection
from colabdev.adapters.store import FileStore
from colabdev.adapters.windows_entries import open_host_entries
from colabdev.config.places import Places
from colabdev.core.backoff import delays
from colabdev.core.ngrok_usage import COUNTED
from colabdev.crash_points import crash_point
from colabdev.errors import ColabdevError, RuntimeUnreachable
from colabdev.keeper.entries import EntryFollower
from colabdev.keeper.link import Link, LinkState
from colabdev.keeper.parting import Parting
from colabdev.keeper.server import KeeperServer
from colabdev.keeper.spares import AgentSpares
from colabdev.keeper.tunnel_use import TunnelUse
from colabdev.keeper.tunnels import TunnelHolder
from colabdev.keeper.wiring_colab import ColabSide
from colabdev.keeper.wiring_home import HomeTasks
from colabdev.keeper.wiring_tunnels import command_to, find_tunnel
from colabdev.models import (
    KeeperAddress,
    Phase,
    RuntimeRecord,
    SshAddress,
)
from colabdev.ports import Provider
from colabdev.providers.local import LocalProvider, find_login
from colabdev.providers.ssh import SshProvider

if TYPE_CHECKING:
    pass

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
        self._link.machine = self._machine
        self._server = KeeperServer(self._key, self._link, self._spares)
        self._entry = EntryFollower(
            lambda: store.load(name), open_host_entries(self._ssh_files, os.environ)
        )
        self._record_checked = time.monotonic()
        self._stopping = threading.Event()
        self._is_proxied = False
        self._colab = ColabSide(
            name,
            places,
            store,
            own_agent=lambda: KeeperClient(name, self._address(), own=True).agent(),
            idle_s=lambda: self._server.idle_s,
        )
        self._home = HomeTasks(name, places, store)
        self._foresight = self._home.foresight(self._colab.funds_end, self._colab.is_unpaid)
        self._colab.have_saved = lambda: self._foresight.have_saved
        self._parting = Parting(
            name,
            runtimes=store,
            jobs=FileJobStore(places.state_dir),
            give_back=lambda record: give_back_by_command(record, os.environ, places.log_dir),
        )
        self._continuing = self._home.continuing(
            environment=os.environ,
            is_lost=lambda: self._link.state is LinkState.LOST,
            was_let_go=lambda: self._colab.was_let_go,
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
        self._start_task("the link", self._link.run, is_vital=True)
        self._start_task("the tunnel", self._hold_tunnel)
        self._start_task(
            "the watch for editors", lambda: self._home.editor_watch().run(self._stopping)
        )
        self._start_task("bringing jobs home", lambda: self._home.job_copies().run(self._stopping))
        self._start_task("bringing checkpoints home", self._pull_checkpoints)
        self._start_task("bringing code home", lambda: self._home.code_copies().run(self._stopping))
        self._start_task("looking after Drive", lambda: self._colab.drive.run(self._stopping))
        self._start_task("looking ahead", lambda: self._foresight.run(self._stopping))
        self._start_task("giving the runtime back", lambda: self._parting.run(self._stopping))
        self._start_task("going on with jobs", lambda: self._continuing.run(self._stopping))
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

    def _start_task(self, name: str, run: Callable[[], object], *, is_vital: bool = False) -> None:
        """Run it beside the others. A bug in it ends it alone, or the keeper if it is vital."""

        def guarded() -> None:
            try:
                run()
            except Exception:  # A task's boundary.
                log.exception("bug in %s", name)
                if is_vital:
                    self._server.stop()

        threading.Thread(target=guarded, name=name, daemon=True).start()

    def _hold_tunnel(self) -> None:
        first_s, cap_s = TUNNEL_RETRY_FIRST_S, TUNNEL_RETRY_CAP_S
        self._tunnel.run(
            self._stopping, lambda: delays(first_s=first_s, cap_s=cap_s, random=Random())
        )

    def _pull_checkpoints(self) -> None:
        self._home.checkpoint_pulls(self._colab.login).run(self._stopping)

    def _notice(self) -> str:
        """Why the runtime stays, or does not stay, otherwise than its user may think; Drive; and what is
        nearly used up."""
        stays = self._parting.notice or self._colab.notice
        more = (self._foresight.notice, self._colab.drive.notice, self._tunnel_use.warning)
        return "; ".join(filter(None, (stays, *more)))

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
        return self._colab.connect(address.tunnel, self._ssh_files)

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

    def _machine(self) -> str:
        """What names the machine that there is now; "" while there is none."""
        try:
            record = self._store.load(self._name)
        except ColabdevError:
            return ""  # Unreadable is not another one.
        return record.request_id if record is not None and record.machine is not None else ""

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
            return self._colab.provider()
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
        def withdrawn(record: RuntimeRecord) -> RuntimeRecord:
            if record.keeper is None or record.keeper.key != self._key.hex():
                return record
            return replace(self._in_view_of_loss(record), keeper=None)

        try:
            self._store.update(self._name, withdrawn)
        except ColabdevError as exc:
            log.warning("cannot withdraw from the state file: %s", exc.message)

    def _in_view_of_loss(self, record: RuntimeRecord) -> RuntimeRecord:
        """The record, which may be of the next machine by now."""
        is_lost = self._link.is_of(record.request_id) and record.phase is not Phase.RELEASING
        return replace(record, phase=Phase.LOST) if is_lost else record

    def _should_go_on(self) -> bool:
        if self._link.state is LinkState.LOST and not self._is_needed_without_machine():
            return False
        if time.monotonic() - self._record_checked < RECORD_CHECK_INTERVAL_S:
            return True
        self._record_checked = time.monotonic()
        self._tunnel_use.note()
        self._server.secrets.let_go(self._home.is_over)
        try:
            record = self._store.load(self._name)
        except ColabdevError as exc:
            log.warning("%s", exc.message)
            return True  # Unreadable is not gone.
        keeper = record.keeper if record is not None else None
        return keeper is not None and keeper.key == self._key.hex()

    def _is_needed_without_machine(self) -> bool:
        """Whether a job waits for the next machine; whoever decides that reads in the record that this
        one is gone."""
        try:
            record = self._store.load(self._name)
            if record is not None and self._in_view_of_loss(record) != record:
                self._store.update(self._name, self._in_view_of_loss)
        except ColabdevError as exc:
            log.warning("%s", exc.message)
        return self._continuing.is_needed()


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
