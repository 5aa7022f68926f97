"""Bringing runtimes up, and saying how they stand."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from colabdev.core.parting import how_it_went, lease_of, life_left_s, ttl_left_s
from colabdev.core.tunnels import may_have_tunnel
from colabdev.core.workdirs import usable_machine
from colabdev.crash_points import crash_point
from colabdev.errors import (
    ColabdevError,
    RuntimeLost,
    RuntimeUnreachable,
    StateUnreadable,
    UsageError,
    runtime_lost,
)
from colabdev.models import (
    KeeperAddress,
    Phase,
    ProjectLink,
    RuntimeRecord,
    RuntimeState,
    RuntimeStatus,
    StartRequest,
)
from colabdev.ports import HostEntries, JobStore, Keeper, Keepers, Progress, Provider, RuntimeStore
from colabdev.ports.tunnels import CLOSE_REQUEST
from colabdev.services.kept_jobs import KeptJobs
from colabdev.services.known_jobs import readable_jobs
from colabdev.services.known_runtimes import KnownRuntimes, note_lost
from colabdev.services.plan import ConnectRequest, check_same_machine, check_same_provider

READY_TIMEOUT_S = 40.0
TUNNEL_TIMEOUT_S = 180.0
"""What it needs may have to be installed on the runtime first."""
PATIENCE_S = 5.0
"""After this long the user is told what keeps them waiting."""
STATUS_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Listing:
    """All runtimes known here, and the state files that could not be read."""

    runtimes: tuple[RuntimeStatus, ...]
    unreadable: tuple[StateUnreadable, ...]


class Runtimes(KnownRuntimes):
    """The life of runtimes. Every step may be interrupted and typed again."""

    def __init__(
        self,
        *,
        store: RuntimeStore,
        provider: Callable[[str], Provider],
        keepers: Keepers,
        host_entries: HostEntries,
        jobs: JobStore,
    ) -> None:
        super().__init__(store)
        self._jobs = jobs
        self._kept_jobs = KeptJobs(store, jobs)
        self._provider = provider
        self._keepers = keepers
        self._host_entries = host_entries

    def connect(self, request: ConnectRequest, progress: Progress) -> RuntimeStatus:
        """Bring the runtime up, or reconnect to it. Typed twice it is there once."""
        provider = self._provider(request.provider)
        with self._store.operation(request.name):
            self._check_alias(request)
            known = self._store.load(request.name)
            # Before anything is begun, because it may fail.
            public_key = self._host_entries.public_key()
            record = self._begin(known, request, provider, progress)
            start = StartRequest(
                record.name,
                record.request_id,
                public_key,
                record.python,
                record.host,
                request.hardware,
                request.drive,
            )
            record = self._start(record, provider, start, progress)
            if record.ssh is not None:  # Else its keeper writes it, once a tunnel has an end.
                self._host_entries.write(record)
            by_hand = self._host_entries.include()
            if by_hand:
                progress(by_hand)
            crash_point("connect.host_entry")
            record = self._make_usable(record, request, progress)
            self._host_entries.write(record)
        return RuntimeStatus(record, RuntimeState.READY)

    def survey(self) -> Listing:
        """How each runtime stands now; a keeper that had ended is started again."""
        records, unreadable = self.records()
        return Listing(tuple(self.state_of(record) for record in records), tuple(unreadable))

    def shell(
        self, named: str | None, project_path: str | None, arguments: Sequence[str]
    ) -> Sequence[str]:
        """The system ssh's argument list for a shell or a command on the runtime."""
        record = self.choose(named, project_path)
        usable_machine(record)
        if self._is_lost(record):
            raise runtime_lost(record.name)
        if record.ssh is None:
            self._keepers.ensure(record.name).wait_ready(READY_TIMEOUT_S)
            record = self._store.load(record.name) or record
        # Costs nothing while it is as it should be, and mends what somebody removed.
        self._host_entries.write(record)
        return self._host_entries.command(record.name, arguments)

    def _check_alias(self, request: ConnectRequest) -> None:
        """Ours would be in front of a `Host` of the user's and take it away from them."""
        place = self._host_entries.taken_by(request.name)
        if place:
            raise UsageError(
                f"the name {request.name!r} is taken by your own SSH configuration: {place}",
                hint=request.under_another_name,
            )

    def _begin(
        self,
        record: RuntimeRecord | None,
        request: ConnectRequest,
        provider: Provider,
        progress: Progress,
    ) -> RuntimeRecord:
        """The record of what is about to be asked for, written before it is asked."""
        keeper = None
        if record is not None:
            check_same_provider(record, request)
            if record.phase in (Phase.STARTING, Phase.UP) and not self._is_lost(record):
                return self._again(record, request)
            # Gone, or half released: what is left of it goes before the next one comes.
            progress(f"the runtime {record.name!r} from before is gone; starting a new one")
            keeper = self._keeper_that_stays(record, request)
            if keeper is None:
                self._keepers.stop(record)
            provider.release(record.name)
        fresh = RuntimeRecord(
            name=request.name,
            provider=request.provider,
            request_id=str(uuid.uuid4()),
            created=datetime.now(UTC),
            projects=record.projects if record else (),
            python=request.python or (record.python if record else None),
            host=request.host,
            tunnel=request.tunnel,
            keeper=keeper,
        )
        self._store.save(fresh)
        crash_point("connect.recorded")
        return fresh

    def _keeper_that_stays(
        self, record: RuntimeRecord, request: ConnectRequest
    ) -> KeeperAddress | None:
        """The keeper of a machine that is gone, when it knows that and the next one is reached alike: it
        goes over to that one, with the secrets of the jobs that continue there."""
        if (
            record.phase is not Phase.LOST
            or (record.tunnel and record.tunnel.wish) != request.tunnel
        ):
            return None
        keeper = self._keepers.find(record)
        is_waiting = keeper is not None and keeper.link()["state"] == "lost"
        return record.keeper if is_waiting else None

    def _again(self, record: RuntimeRecord, request: ConnectRequest) -> RuntimeRecord:
        """The record of a runtime that goes on; only a machine that is not there yet may become
        another host or change its Python."""
        if (record.tunnel and record.tunnel.wish) != request.tunnel:
            # Its keeper is connected by the one before, and holds that.
            self._keepers.stop(record)
            record = self._changed(record.name, lambda known: replace(known, tunnel=request.tunnel))
        if record.machine is not None:
            check_same_machine(record, request)
            return record
        python, host = request.python or record.python, request.host
        return self._changed(record.name, lambda known: replace(known, python=python, host=host))

    def _start(
        self, record: RuntimeRecord, provider: Provider, start: StartRequest, progress: Progress
    ) -> RuntimeRecord:
        try:
            machine = provider.start(start, progress)
        except ColabdevError:
            if record.host is not None and record.machine is None:
                # It was there before and costs nothing: there is nothing to go on with, or to release.
                self._store.delete(record.name)
            raise
        crash_point("connect.started")
        if record.machine is not None and record.machine.ssh != machine.ssh:
            # Its keeper may still be connected to what the name led to before.
            self._keepers.stop(record)
            record = self._changed(
                record.name,
                lambda known: replace(known, tunnel=known.tunnel and known.tunnel.wish),
            )
        record = self._changed(record.name, lambda known: replace(known, machine=machine))
        crash_point("connect.addressed")
        return record

    def _make_usable(
        self, record: RuntimeRecord, request: ConnectRequest, progress: Progress
    ) -> RuntimeRecord:
        """Bring the agent up, learn what the machine has, make the work dir."""
        assert record.machine is not None, "started before"
        by = f" by {record.tunnel.kind}" if record.tunnel else ""
        progress(f"connecting to {record.name}{by}")
        keeper = self._keepers.ensure(record.name)
        if keeper.link()["state"] == "refused":
            # It has the environment of whoever started it, perhaps an ssh-agent that has gone since.
            keeper.quit()
            keeper = self._keepers.ensure(record.name)
        crash_point("connect.keeper")
        _wait_ready(keeper, progress, TUNNEL_TIMEOUT_S if record.tunnel else READY_TIMEOUT_S)
        agent = keeper.agent()
        try:
            agent.ask("probe")
            closes = record.tunnel is None and may_have_tunnel(record.provider)
            if closes:
                agent.ask(CLOSE_REQUEST)  # It may have had one before.
            facts, _ = agent.answer("probe")
            if closes:
                agent.answer(CLOSE_REQUEST)
            link = _project_link(record, request)
            # Without a project, too, a job needs somewhere to run; nothing of that goes to Drive.
            place: dict[str, object] = {"workdir": record.machine.content_dir}
            if link is not None:
                place = {"workdir": link.workdir, "drive_dir": record.machine.drive_dir}
            agent.request("prepare", place)
            if record.can_leave:
                linked = record.with_project(link) if link else record
                now = datetime.now(UTC)
                ends = {"for_s": ttl_left_s(record, now), "limit_s": life_left_s(record, now)}
                agent.request("lease.keep", {**lease_of(linked), **ends})
                if record.machine.drive_dir is not None:
                    self._kept_jobs.bring_home(agent, record.machine.drive_dir, progress)
        finally:
            agent.close()
        crash_point("connect.prepared")
        return self._changed(record.name, lambda known: _usable(known, facts, link))

    def _changed(
        self, name: str, change: Callable[[RuntimeRecord], RuntimeRecord]
    ) -> RuntimeRecord:
        record = self._store.update(name, change)
        if record is None:
            raise RuntimeLost(
                f"the runtime {name!r} was released while it was being connected",
                hint=f"colabdev connect {name}",
            )
        return record

    def state_of(self, record: RuntimeRecord) -> RuntimeStatus:
        """How this runtime stands now; as in `survey`."""
        if record.phase is Phase.LOST:
            return self._gone(record)
        if record.phase is Phase.RELEASING:
            detail = f"being released; if no `down` runs now, colabdev down {record.name} goes on"
            return RuntimeStatus(record, RuntimeState.UNREACHABLE, detail)
        if record.machine is None or record.phase is Phase.STARTING:
            detail = f"colabdev connect {record.name} goes on with it"
            return RuntimeStatus(record, RuntimeState.STARTING, detail)
        return self._live_status(record)

    def _live_status(self, record: RuntimeRecord) -> RuntimeStatus:
        try:
            keeper = self._keepers.find(record)
            if keeper is None:
                keeper = self._keepers.ensure(record.name)
                with suppress(ColabdevError):
                    keeper.wait_ready(STATUS_TIMEOUT_S)
            link = keeper.link()
        except ColabdevError as exc:
            link = {"state": "unreachable", "reason": exc.to_json()}
        reason = link.get("reason")
        detail = str(reason["message"]) if isinstance(reason, Mapping) else ""
        if link["state"] == "ready":
            return RuntimeStatus(record, RuntimeState.READY, str(link.get("notice") or ""))
        try:
            lost = link["state"] == "lost" or self._is_lost(record)
        except ColabdevError as exc:
            # The others are to be seen all the same.
            return RuntimeStatus(record, RuntimeState.UNREACHABLE, f"{exc.message}; {exc.hint}")
        if lost:
            note_lost(self._store, record)
            return self._gone(record)
        return RuntimeStatus(record, RuntimeState.UNREACHABLE, detail)

    def _gone(self, record: RuntimeRecord) -> RuntimeStatus:
        """Lost, or as it was to go."""
        went = how_it_went(record, readable_jobs(self._jobs), datetime.now(UTC))
        if not went:
            return RuntimeStatus(record, RuntimeState.LOST, _lost_detail(record.name))
        detail = (
            f"gone. It was to give itself back {went}, when Drive had its projects, outputs and logs; "
            f"that Colab took it before nobody here can exclude. colabdev down {record.name} forgets it"
        )
        return RuntimeStatus(record, RuntimeState.RELEASED, detail)

    def _is_lost(self, record: RuntimeRecord) -> bool:
        """The provider says that a runtime that was up is gone. Failing to ask says nothing."""
        if record.phase is Phase.LOST:
            return True
        if record.machine is None:
            return False
        return self._provider(record.provider).find(record.name) is None


def _wait_ready(keeper: Keeper, progress: Progress, timeout_s: float) -> None:
    try:
        keeper.wait_ready(PATIENCE_S)
    except RuntimeUnreachable as exc:
        progress(f"waiting: {exc.message}")
        keeper.wait_ready(timeout_s - PATIENCE_S)


def _lost_detail(name: str) -> str:
    error = runtime_lost(name)
    return f"{error.message}; {error.hint}"


def _project_link(record: RuntimeRecord, request: ConnectRequest) -> ProjectLink | None:
    if request.project_path is None or request.project_name is None:
        return None
    assert record.machine is not None, "started before"
    workdir = f"{record.machine.content_dir}/{request.project_name}"
    return ProjectLink(request.project_path, workdir, datetime.now(UTC))


def _usable(
    record: RuntimeRecord, facts: Mapping[str, object], link: ProjectLink | None
) -> RuntimeRecord:
    assert record.machine is not None, "started before"
    gpu = facts.get("gpu")
    # What is no GPU, a TPU say, the provider alone knows of.
    accelerator = gpu if isinstance(gpu, str) else record.machine.accelerator
    machine = replace(record.machine, accelerator=accelerator)
    usable = replace(record, phase=Phase.UP, machine=machine)
    return usable.with_project(link) if link else usable
