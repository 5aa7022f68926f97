"""Going on with a job, killed or crossed at each of its steps: no attempt runs twice, none is lost, and
what was started for nothing is given back. The world around the engine is a small one; the real one is
in `tests/jobs/test_continuing.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from colabdev.adapters.job_store import FileJobStore
from colabdev.adapters.recovery_store import FileRecoveryStore
from colabdev.adapters.store import FileStore
from colabdev.core.recovery import USER_RETRY_CAP_S, Verdict
from colabdev.crash_points import CRASH_POINTS
from colabdev.errors import ColabdevError, DriveNotAllowed, NoCapacity, RuntimeUnreachable
from colabdev.models import JobRecord, JobState, Machine, Phase, RuntimeRecord
from colabdev.models.orders import JobOrder, MachineWish
from colabdev.models.recovery import Consent, Going, Resumed
from colabdev.services import recovery
from colabdev.services.hand_overs import HandOvers
from colabdev.services.recovery import MOST_FAILURES, USER_PATIENCE, Recovery
from colabdev.services.recovery_cases import RecoveryCases, end_consent, end_consents
from colabdev.services.recovery_steps import CannotGoOn, Making
from tests.support.records import make_job, make_record

RECOVERY = sorted(point for point in CRASH_POINTS if point.startswith("recovery."))
JOB = make_job(Consent(times=9))


class Killed(BaseException):
    """As by kill -9."""


@dataclass
class World:
    """Machines of one name, one after the other; the steps that are done to them, and their provider."""

    runtimes: FileStore
    machine: Machine
    alive: str | None = None
    count: int = 1
    runs: list[tuple[int, str, Resumed | None]] = field(default_factory=list)
    """Every attempt that was let go: its number, its machine, what from."""
    claims: dict[int, str] = field(default_factory=dict)
    left: tuple[int, ...] = ()
    """The attempts that somebody claimed who died then."""
    newest: Resumed | None = field(default_factory=lambda: Resumed(1, 20))
    released: list[str] = field(default_factory=list)
    fails: Callable[[str], None] = lambda step: None
    is_offline: bool = False

    def find(self, name: str) -> Machine | None:
        if self.is_offline:
            raise RuntimeUnreachable("cannot reach it")
        return self.machine if self.alive else None

    def bring_up(self, job: JobRecord, *_: object, by_hand: bool = False) -> RuntimeRecord:
        self.fails("bring_up")
        record = self.runtimes.load("box")
        assert record is not None
        if self.alive is None:
            self.count += 1
            self.alive = f"request-{self.count}"
            record = replace(record, request_id=self.alive, phase=Phase.UP, machine=self.machine)
            self.runtimes.save(record)
        return record

    def token(self, order: JobOrder) -> None:
        pass

    def let_in(self, making: Making, token: None) -> None:
        pass

    def sync_project(self, making: Making, progress: object) -> None:
        pass

    def restore(self, making: Making, safe: Resumed | None, *_: object, **wish: bool) -> Any:
        self.fails("restore")
        if self.newest is None:
            return None
        attempt, step = self.newest.attempt, self.newest.step
        name = f"{attempt}-{step}"
        checkpoint = type("Row", (), {"attempt": attempt, "step": step, "name": name})
        return type("Restored", (), {"checkpoint": checkpoint, "path": f"/restored/{name}"})

    def claim(self, making: Making) -> bool:
        self.fails("claim")
        going_on = making.going_on
        if going_on.attempt in self.left:
            return False
        if self.claims.setdefault(going_on.attempt, going_on.token) != going_on.token:
            raise CannotGoOn("attempt 2 was begun elsewhere")
        return True

    def start(self, making: Making, secrets: Mapping[str, str], progress: object) -> None:
        self.fails("start")
        attempt = (making.going_on.attempt, making.machine.request_id, making.going_on.began_from)
        if attempt not in self.runs:
            self.runs.append(attempt)

    def stop(self, making: Making) -> None:
        self.runs.clear()

    def die(self) -> None:
        """The machine, as its provider tells of it, and its keeper writes it down."""
        self.alive = None
        self.runtimes.update("box", lambda record: replace(record, phase=Phase.LOST))

    def give_back(self, record: RuntimeRecord, progress: object) -> None:
        self.released.append(record.request_id)
        self.alive = None
        self.runtimes.delete("box")


@dataclass
class Bench:
    """A job whose machine just died."""

    world: World
    jobs: FileJobStore
    plans: FileRecoveryStore
    engine: Recovery

    def go_on(self, **wish: bool) -> Verdict:
        return self.engine.go_on(JOB.id, Going(**wish), lambda step: None).decision.verdict

    @property
    def job(self) -> JobRecord:
        job = self.jobs.load(JOB.id)
        assert job is not None
        return job

    def assert_runs(self) -> None:
        """Once, on the machine that there is, as its record says."""
        assert self.world.runs, "it runs"
        assert len({number for number, _, _ in self.world.runs}) == len(self.world.runs)
        number, machine, began_from = self.world.runs[-1]
        assert (self.job.attempt, self.job.request_id) == (number, machine)
        assert (self.world.alive, self.job.resumed) == (machine, began_from)
        assert [past.attempt for past in self.job.past] == sorted(
            {1, *(number for number, _, _ in self.world.runs[:-1]), *self._unstarted()}
        )

    def _unstarted(self) -> set[int]:
        """Those whose machine died after they were recorded, and before they ran."""
        started = {number for number, _, _ in self.world.runs}
        return {past.attempt for past in self.job.past} - started - {1}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    runtimes, jobs = FileStore(tmp_path), FileJobStore(tmp_path)
    plans = FileRecoveryStore(tmp_path)
    record = replace(make_record(), phase=Phase.LOST)
    runtimes.save(record)
    assert jobs.create(JOB)
    jobs.append(JOB.id, 1, 0, b"step 1\n")
    plans.save_order(JOB.id, JobOrder({"spec": {}}, machine=MachineWish("local")))
    assert record.machine is not None
    world = World(runtimes, record.machine)
    engine = Recovery(
        runtimes=runtimes,
        jobs=jobs,
        plans=plans,
        cases=RecoveryCases(runtimes=runtimes, jobs=jobs, plans=plans),
        provider=lambda name: cast(Any, world),
        steps=cast(Any, world),
        secrets=lambda job, names, by_hand: {},
        hold=lambda job, values: None,
        balance=lambda provider: None,
        give_back=world.give_back,
    )
    return Bench(world, jobs, plans, engine)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], None]], None]:
    """Have something happen at a crash point, once."""

    def happen(point: str, what: Callable[[], None]) -> None:
        pending = [point]

        def crash_point(name: str) -> None:
            if name in pending:
                pending.clear()
                what()

        # The real one ends the process; a process for each case would take minutes.
        monkeypatch.setattr(recovery, "crash_point", crash_point)

    return happen


def die_here() -> None:
    raise Killed


def test_job_goes_on_from_its_newest_checkpoint_and_is_left_alone_then(bench: Bench) -> None:
    assert bench.go_on() is Verdict.GO_ON
    assert bench.world.runs == [(2, "request-2", Resumed(1, 20))]
    assert [(past.attempt, past.log_bytes) for past in bench.job.past] == [(1, 7)]
    bench.assert_runs()
    assert bench.go_on() is Verdict.LEAVE
    assert bench.go_on(by_hand=True) is Verdict.LEAVE
    assert len(bench.world.runs) == 1


@pytest.mark.parametrize("machine_dies", [False, True])
@pytest.mark.parametrize("point", RECOVERY)
def test_killed_at_any_step_it_goes_on_and_no_attempt_is_made_twice(
    bench: Bench, at: Any, point: str, machine_dies: bool
) -> None:
    at(point, die_here)
    with pytest.raises(Killed):
        bench.go_on()
    if machine_dies:
        bench.world.die()
        bench.world.newest = Resumed(9, 30) if bench.world.runs else bench.world.newest
    assert bench.go_on() is Verdict.GO_ON
    bench.assert_runs()
    assert bench.world.count == (3 if machine_dies else 2)
    assert len(bench.world.runs) == (2 if machine_dies and point == "recovery.started" else 1)
    assert bench.go_on() is Verdict.LEAVE


@pytest.mark.parametrize("point", RECOVERY)
def test_stopped_at_any_step_it_does_not_run_and_nothing_is_left(
    bench: Bench, at: Any, point: str
) -> None:
    at(point, lambda: stop(bench))
    bench.go_on()
    assert bench.world.runs == []
    assert bench.job.continues is None
    before_it_ran = point not in ("recovery.recorded", "recovery.started", "recovery.counted")
    assert bench.world.released == (["request-2"] if before_it_ran else [])
    assert bench.go_on() is Verdict.LEAVE


def stop(bench: Bench) -> None:
    end_consent(bench.jobs, bench.world.runtimes, bench.job)


@pytest.mark.parametrize("point", RECOVERY)
def test_given_back_at_any_step_nothing_starts_another_machine(
    bench: Bench, at: Any, point: str
) -> None:
    """`down` of somebody who has had enough, at any moment."""

    def down() -> None:
        end_consents(bench.jobs, bench.world.runtimes, "box")
        bench.world.give_back(bench.world.bring_up(bench.job), None)
        bench.world.runs.clear()

    at(point, down)
    bench.go_on()
    assert (bench.world.runs, bench.world.alive) == ([], None)
    assert bench.go_on() is Verdict.LEAVE
    assert bench.world.count == 2


def test_attempt_that_somebody_else_has_ends_it_and_the_machine_goes_back(bench: Bench) -> None:
    bench.world.claims[2] = "another computer's"
    # Lost with an earlier machine, which nobody wrote down: it keeps no other one up.
    long_ago = replace(JOB, id="b-261101-bbbb", request_id="request-0", continues=None)
    assert bench.jobs.create(long_ago)
    with pytest.raises(CannotGoOn):
        bench.go_on()
    assert (bench.world.runs, bench.world.released) == ([], ["request-2"])
    going_on = bench.plans.continuation(JOB.id)
    assert (going_on.is_over, going_on.why) == (True, "attempt 2 was begun elsewhere")
    assert bench.job.attempt == 1


def test_number_that_somebody_claimed_and_never_began_is_left_void(bench: Bench, at: Any) -> None:
    bench.world.left = (2, 3)
    at("recovery.claimed", die_here)
    with pytest.raises(Killed):
        bench.go_on()
    assert bench.go_on() is Verdict.GO_ON
    assert bench.world.runs == [(4, "request-2", Resumed(1, 20))]
    bench.assert_runs()
    bench.world.left = tuple(range(99))
    bench.world.newest = Resumed(4, 30)
    bench.world.die()
    with pytest.raises(ColabdevError, match="others claim each number"):
        bench.go_on()
    bench.world.left = ()
    going_on = bench.plans.continuation(JOB.id)
    bench.plans.save_continuation(JOB.id, replace(going_on, waits_until=None))
    assert bench.go_on() is Verdict.GO_ON
    assert bench.world.runs[-1] == (9, "request-3", Resumed(4, 30))


def test_what_fails_for_now_is_tried_later_and_a_machine_is_not_kept_for_ever(bench: Bench) -> None:
    def fails(step: str) -> None:
        if step == "claim":
            raise ColabdevError("the store does not answer")

    bench.world.fails = fails
    bench.world.is_offline = True
    for _ in range(2 * MOST_FAILURES):
        with pytest.raises(ColabdevError):
            bench.go_on()
        going_on = bench.plans.continuation(JOB.id)
        assert not going_on.is_over, "without a network nothing is known of the machine"
        bench.plans.save_continuation(JOB.id, replace(going_on, failures=0, waits_until=None))
    bench.world.is_offline = False
    for number in range(1, MOST_FAILURES + 1):
        with pytest.raises(ColabdevError):
            bench.go_on()
        going_on = bench.plans.continuation(JOB.id)
        assert going_on.failures == number or going_on.is_over
        if not going_on.is_over:
            assert bench.go_on() is Verdict.WAIT
            bench.plans.save_continuation(JOB.id, replace(going_on, waits_until=None))
    assert going_on.is_over
    assert bench.world.released == ["request-2"]


def test_no_machine_to_be_had_is_waited_for(bench: Bench) -> None:
    hints = {
        "": "no T4 is free now",
        "type the command again in a minute": "no T4 is free now",
        "run a cell, then type the command again": "no T4 is free now; next: run a cell",
        "is it online? then type the command again": "no T4 is free now; next: is it online?",
    }
    told = list(hints)

    def fails(step: str) -> None:
        raise NoCapacity("no T4 is free now", hint=told[0])

    bench.world.fails = fails
    held: list[Mapping[str, str]] = []
    bench.engine = replace(
        bench.engine,
        secrets=lambda job, names, by_hand: {"HF_TOKEN": "secret"},
        hold=lambda job, values: held.append(values),
    )
    for number in range(1, 2 * MOST_FAILURES):
        with pytest.raises(NoCapacity):
            bench.go_on()
        assert held == number * [{"HF_TOKEN": "secret"}]
        going_on = bench.plans.continuation(JOB.id)
        assert not going_on.is_over
        assert going_on.why == hints[told[0]], "nobody needs to type it again: it is tried again"
        told.append(told.pop(0))
        bench.plans.save_continuation(JOB.id, replace(going_on, waits_until=None))

    def stutters(step: str) -> None:
        if step == "claim":
            raise ColabdevError("the store does not answer")

    bench.world.fails = stutters
    with pytest.raises(ColabdevError):
        bench.go_on()
    assert bench.world.released == [], "it failed us once, whatever was before it"
    bench.plans.save_continuation(JOB.id, replace(going_on, waits_until=None))
    bench.world.fails = lambda step: None
    assert bench.go_on() is Verdict.GO_ON
    bench.assert_runs()


def test_user_is_waited_for_who_alone_can_let_it_into_drive_and_not_for_ever(bench: Bench) -> None:
    """The machine is there and costs, though nobody can reach it yet."""

    def fails(step: str) -> None:
        record = bench.world.runtimes.load("box")
        assert record is not None
        starting = replace(record, request_id="request-2", phase=Phase.STARTING, machine=None)
        bench.world.runtimes.save(starting)
        bench.world.alive = "request-2"
        raise DriveNotAllowed("Google asks for your Drive", hint="open https://page and say yes")

    bench.world.fails = fails
    for _ in range(2 * MOST_FAILURES):
        with pytest.raises(DriveNotAllowed):
            bench.go_on()
        going_on = bench.plans.continuation(JOB.id)
        assert going_on.why == "Google asks for your Drive; next: open https://page and say yes"
        assert going_on.waits_until is not None
        assert going_on.waits_until <= datetime.now(UTC) + timedelta(seconds=USER_RETRY_CAP_S)
        bench.plans.save_continuation(JOB.id, replace(going_on, waits_until=None))
    assert bench.world.released == []
    long_ago = datetime.now(UTC) - USER_PATIENCE
    bench.plans.save_continuation(
        JOB.id, replace(going_on, waits_until=None, user_awaited=long_ago)
    )
    with pytest.raises(DriveNotAllowed):
        bench.go_on()
    assert bench.world.released == ["request-2"]
    assert bench.plans.continuation(JOB.id).why == (
        "Google asks for your Drive; its new machine was given back; "
        f"next: colabdev run --continue {JOB.id}"
    )


def test_second_start_without_a_newer_checkpoint_is_not_made(bench: Bench) -> None:
    bench.world.newest = None
    assert bench.go_on() is Verdict.GO_ON
    assert bench.world.runs == [(2, "request-2", None)], "it begins anew, once"
    bench.world.die()
    with pytest.raises(CannotGoOn, match="nothing newer was safe"):
        bench.go_on()
    assert bench.world.released == ["request-3"]


@pytest.mark.parametrize("used_up", ["times", "units"])
def test_whoever_types_it_goes_beyond_what_was_agreed_to_and_that_counts_anew(
    bench: Bench, used_up: str
) -> None:
    funds = [100.0]
    bench.plans.save_order(JOB.id, JobOrder({"spec": {}}, machine=MachineWish("colab")))
    bench.engine = replace(bench.engine, balance=lambda provider: funds[-1])
    consent = Consent(times=1 if used_up == "times" else 9, max_units=8.0)
    bench.jobs.update(JOB.id, lambda job: replace(job, continues=consent))
    assert bench.go_on() is Verdict.GO_ON
    bench.world.die()
    bench.world.newest = Resumed(2, 30)
    if used_up == "units":
        funds.append(90.0)
        with pytest.raises(CannotGoOn, match="the units are used up"):
            bench.go_on()
    assert bench.go_on() is Verdict.NEVER
    assert bench.go_on(by_hand=True) is Verdict.GO_ON
    bench.assert_runs()
    bench.world.die()
    bench.world.newest = Resumed(3, 40)
    funds.append(85.0)
    assert bench.go_on() is (Verdict.NEVER if used_up == "times" else Verdict.GO_ON)


def test_what_was_saved_while_nobody_here_heard_of_it_is_gone_on_from(bench: Bench) -> None:
    """The computer slept, or its keeper was killed: what it knows is no word about what there is."""
    before = bench.jobs.version()
    bench.plans.note_safe(JOB.id, Resumed(1, 20))
    assert bench.go_on() is Verdict.GO_ON
    assert bench.jobs.version() != before, "whoever looks after its copies looks now"
    bench.world.die()
    bench.world.newest = Resumed(2, 900)
    assert bench.go_on() is Verdict.GO_ON
    bench.assert_runs()


def test_job_that_is_found_to_have_ended_is_not_run_again(bench: Bench, at: Any) -> None:
    """Drive tells it to the new machine, when the old one gave itself back while nobody was here."""

    def hears() -> None:
        bench.jobs.update(JOB.id, lambda job: replace(job, state=JobState.SUCCEEDED))

    at("recovery.machine", hears)
    assert bench.go_on() is Verdict.LEAVE
    assert (bench.world.runs, bench.world.released) == ([], ["request-2"])


def test_machine_that_is_only_out_of_reach_is_left_alone(bench: Bench) -> None:
    bench.world.runtimes.update("box", lambda record: replace(record, phase=Phase.UP))
    bench.world.alive = "request-1"
    assert bench.go_on() is Verdict.LEAVE
    assert bench.go_on(by_hand=True) is Verdict.LEAVE
    bench.world.alive = None
    assert bench.go_on() is Verdict.GO_ON, "its provider says that it is gone"


class Dying(FileStore):
    """Its machine is known to be gone right after somebody looked."""

    looks = 0

    def load(self, name: str) -> RuntimeRecord | None:
        self.looks += 1
        record = super().load(name)
        return replace(record, phase=Phase.UP) if record and self.looks == 1 else record


class Told(Exception):
    """Somebody who follows is told this."""


def test_who_looks_just_before_its_machine_is_gone_waits_for_the_next(bench: Bench) -> None:
    runtimes = Dying(bench.world.runtimes.state_dir)
    hand_overs = HandOvers(
        runtimes=runtimes,
        jobs=bench.jobs,
        keepers=cast(Any, None),
        cases=RecoveryCases(runtimes=runtimes, jobs=bench.jobs, plans=bench.plans),
        told=bench.jobs,
    )

    def tell(said: str) -> None:
        raise Told(said)

    with pytest.raises(Told, match="starting a new machine for it"):
        hand_overs.wait_for_next(JOB.id, JOB.attempt, tell)
