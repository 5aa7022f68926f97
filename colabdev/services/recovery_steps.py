"""What is done to the world so that a job goes on on another machine. Each step may be done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from colabdev.agent import manifest
from colabdev.agent.changes import Frame
from colabdev.core.parting import lease_of
from colabdev.core.recovery import told_of_checkpoint
from colabdev.core.recovery_records import format_resumed
from colabdev.core.workdirs import usable_machine, workdir_of
from colabdev.errors import ColabdevError, NoCode
from colabdev.models import DriveWish, JobRecord, RuntimeRecord
from colabdev.models.orders import JobOrder, MachineWish
from colabdev.models.recovery import Continuation, Resumed, Try
from colabdev.ports import AgentStream, DriveTokens, Keepers, Progress
from colabdev.ports.recovery import RecoveryStore
from colabdev.services.checkpoint_lists import StoreChoice, find_store, survey_store
from colabdev.services.checkpoint_restore import (
    CheckpointRestorer,
    NewestWish,
    RestoredCheckpoint,
)
from colabdev.services.job_logs import JobLogs, Starting
from colabdev.services.plan import ConnectRequest
from colabdev.services.runtimes import Runtimes

_READY_S = 60.0


class CannotGoOn(ColabdevError):
    """It must not, or never can; trying again would not help."""


@dataclass(frozen=True, slots=True)
class Making:
    """An attempt in the making: of which job, by which order, on which machine."""

    job: JobRecord
    order: JobOrder
    machine: RuntimeRecord
    going_on: Continuation

    @property
    def stores(self) -> tuple[str, ...]:
        """Where the job's checkpoints go, but for copies on computers."""
        return _stores(self.order)

    @property
    def api_url(self) -> str:
        """Where the Drive API is."""
        return str(_checkpoints(self.order).get("api_url") or "")

    @property
    def store(self) -> Mapping[str, object] | None:
        """The first of its stores, as requests take it; None when nothing is kept beside copies here.
        ColabdevError when it cannot be looked into: nobody knows then what there is."""
        if not self.stores:
            return None
        choice = StoreChoice(self.stores[0], self.api_url)
        place = find_store(self.machine, self.order.project_name, choice)
        if place is None:
            raise ColabdevError(
                f"{self.machine.name!r} came without Drive, which has the checkpoints of {self.job.id}",
                hint=f"colabdev connect {self.machine.name} mounts it",
            )
        return place


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverySteps:
    """The steps, on what there is of a machine."""

    runtimes: Runtimes
    keepers: Keepers
    logs: JobLogs
    plans: RecoveryStore
    restorer: CheckpointRestorer
    computer_id: Callable[[], str]
    sync: Callable[[RuntimeRecord, str, Progress], None]
    """Brings the project in that folder in step with the machine."""
    tokens: Callable[[], DriveTokens]

    def bring_up(
        self,
        job: JobRecord,
        order: JobOrder,
        wish: MachineWish,
        progress: Progress,
        *,
        by_hand: bool,
    ) -> RuntimeRecord:
        """The machine of that name, a new one when there is none. `by_hand`: somebody is there who can
        let it into their Drive; `DriveNotAllowed` when nobody is, and the checkpoints are there."""
        drive = DriveWish.NEED if _needs_drive(order) else DriveWish.WANT
        request = ConnectRequest(
            name=job.runtime,
            provider=wish.provider,
            project_path=order.project_path,
            project_name=order.project_name,
            python=wish.python,
            hardware=wish.hardware,
            drive=DriveWish.ASK if by_hand else drive,
            tunnel=wish.tunnel,
        )
        return self.runtimes.connect(request, progress).record

    def token(self, order: JobOrder) -> Mapping[str, object] | None:
        """What lets a machine into Drive by its API; None when its checkpoints are not there."""
        if manifest.DRIVEAPI not in _stores(order):
            return None
        return self.tokens().mint(with_refresh=False)

    def let_in(self, making: Making, token: Mapping[str, object] | None) -> None:
        """Give it to the machine, which has no job yet that its keeper would give it for."""
        if token is not None:
            with closing(self._agent(making.machine)) as agent:
                agent.request("checkpoint.token", token)

    def sync_project(self, making: Making, progress: Progress) -> None:
        """Bring what of the project is no code. That it cannot be is no reason to lose the job."""
        path = making.order.project_path
        if path is None:
            return
        try:
            self.sync(making.machine, path, progress)
        except ColabdevError as exc:
            progress(f"{making.job.id} goes on without a sync: {exc.message}")

    def restore(
        self,
        making: Making,
        safe: Resumed | None,
        progress: Progress,
        *,
        accept_rollback: bool,
    ) -> RestoredCheckpoint | None:
        """Put the newest checkpoint that verifies on the machine; None when there never was one."""
        starts = {one.attempt: _start_of(one) for one in making.going_on.tries}
        if safe and not manifest.is_in_lineage(safe.attempt, safe.step, starts):
            safe = None  # Somebody went back behind it knowingly.
        wish = NewestWish(
            job=making.job.id, minimum=safe, starts=starts, accept_rollback=accept_rollback
        )
        return self.restorer.newest(making.machine, making.store, wish, progress)

    def claim(self, making: Making) -> bool:
        """Make the attempt's number ours; `CannotGoOn` when it is somebody else's. False: somebody
        claimed it and died before he began."""
        if making.store is None:
            return True  # Nobody else could go on with it: all that is left of it is here.
        asked = {
            **making.store,
            "stores": list(making.stores),
            "job": making.job.id,
            "attempt": making.going_on.attempt,
            "token": making.going_on.token,
            "runtime": making.machine.request_id,
            "from": format_resumed(making.going_on.began_from),
        }
        with closing(self._agent(making.machine)) as agent:
            answer, _ = agent.request("job.claim", asked)
        if answer.get("left"):
            return False
        if not answer.get("won"):
            raise CannotGoOn(
                f"attempt {making.going_on.attempt} of {making.job.id} was begun elsewhere",
                hint="colabdev checkpoints ls shows what it saves there",
            )
        return True

    def start(self, making: Making, secrets: Mapping[str, str], progress: Progress) -> None:
        """Start the attempt. Asked again it is there once."""
        arguments = self._arguments(making, secrets)
        try:
            self.logs.start(making.job, Starting(arguments), progress)
        except NoCode:
            self._send_code(making, progress)
            self.logs.start(making.job, Starting(arguments), progress)

    def stop(self, making: Making) -> None:
        """End what was started and is not wanted any more."""
        with closing(self._agent(making.machine)) as agent:
            agent.request("job.stop", {"id": making.job.id})

    def _arguments(self, making: Making, secrets: Mapping[str, str]) -> Mapping[str, object]:
        order, machine, going_on = making.order, making.machine, making.going_on
        drive_dir = usable_machine(machine).drive_dir
        argv = order.spec.get("argv")
        spec = {
            **order.spec,
            "attempt": going_on.attempt,
            "argv": told_of_checkpoint(
                argv if isinstance(argv, list) else [], order.resume, going_on.path or None
            ),
            "runtime": machine.request_id,
            "workdir": workdir_of(machine, order.project_path, order.project_name),
            "from": format_resumed(going_on.began_from),
            "resume_from": going_on.path or None,
            "token": going_on.token,
            "checkpoints": {**_checkpoints(order), "drive_dir": drive_dir},
            "environment": {"drive_dir": drive_dir} if order.spec.get("environment") else None,
        }
        arguments: dict[str, object] = {
            "spec": spec,
            "env": {**order.env, **secrets},
            "expect": {
                "marker": {"computer": self.computer_id(), "project": order.project_path},
            },
            "code": {
                **(making.store or {"project": order.project_name, "drive_dir": drive_dir}),
                "tree": self._tree(making),
            },
        }
        if making.job.gives_back and machine.can_leave:
            arguments["lease"] = lease_of(machine)
        return arguments

    def _tree(self, making: Making) -> str:
        known = making.order.tree or self.plans.code_tree(making.job.id)
        known = known or self._tree_in_store(making)
        if known is None:
            raise CannotGoOn(
                f"the code of {making.job.id} came neither here nor to Drive: nobody knows what it ran",
                hint="colabdev run starts it anew",
            )
        return known

    def _tree_in_store(self, making: Making) -> str | None:
        """Of a job whose machine died before its code was here."""
        place, job_id = making.store, making.job.id
        if place is None:
            return None
        with closing(self._agent(making.machine)) as agent:
            rows = survey_store(agent, place, job_id)
        runs = [row.get("run") for row in rows if row.get("job") == job_id]
        trees = (run.get("tree") for run in runs if isinstance(run, Mapping))
        return next((tree for tree in trees if isinstance(tree, str)), None)

    def _send_code(self, making: Making, progress: Progress) -> None:
        tree = self._tree(making)
        if self.plans.code_tree(making.job.id) != tree:
            raise CannotGoOn(
                f"the code of {making.job.id} is neither here nor on Drive",
                hint="colabdev run starts it anew",
            )
        progress(f"sending the code of {making.job.id}")
        frames = _frames(self.plans.read_code(making.job.id))
        with closing(self._agent(making.machine)) as agent:
            agent.upload("job.receive_code", {"tree": tree}, frames)

    def _agent(self, machine: RuntimeRecord) -> AgentStream:
        keeper = self.keepers.ensure(machine.name)
        keeper.wait_ready(_READY_S)
        return keeper.agent()


def _checkpoints(order: JobOrder) -> Mapping[str, object]:
    told = order.spec.get("checkpoints")
    return told if isinstance(told, Mapping) else {}


def _stores(order: JobOrder) -> tuple[str, ...]:
    names = _checkpoints(order).get("stores")
    listed = names if isinstance(names, list) else []
    return tuple(str(name) for name in listed if name != manifest.PULL)


def _needs_drive(order: JobOrder) -> bool:
    """Whether the store that is asked first is on the machine's own Drive."""
    return _stores(order)[:1] not in ((), (manifest.DRIVEAPI,))


def _start_of(one: Try) -> manifest.Start:
    began = one.began_from
    if began is None:
        return manifest.Start(one.attempt)
    return manifest.Start(one.attempt, began.attempt, began.step)


def _frames(pieces: Iterable[bytes]) -> Iterator[Frame]:
    for piece in pieces:
        yield {}, piece
    yield {"end": True}, b""
