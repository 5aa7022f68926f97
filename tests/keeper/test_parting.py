"""When a rented runtime is given back without anybody typing anything, and how often that is tried."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from colabdev.adapters.job_store import FileJobStore
from colabdev.adapters.store import FileStore
from colabdev.cli.on_demand import how_it_leaves
from colabdev.core.parting import how_it_went, why_give_back
from colabdev.core.tunnels import TUNNELS
from colabdev.keeper.parting import COURTESY_S, RETRY_FIRST_S, Parting
from colabdev.models import ColabTunnel, JobRecord, JobState, Phase, RuntimeRecord
from colabdev.services.plan import Typed, plan_connect
from colabdev.services.starts import CheckpointWish
from tests.support.records import HOST_KEY, make_record

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


def rented(*, ttl_ends: datetime | None = None, connected: datetime = NOW - HOUR) -> RuntimeRecord:
    """A runtime of Colab's, used by one project."""
    record = make_record("colab", provider="colab")
    assert record.machine is not None
    ends = ttl_ends or NOW + HOUR
    tunnel = ColabTunnel("gpu-t4", (HOST_KEY,), ends, gives_back=ttl_ends is not None)
    ssh = replace(record.machine.ssh, login=None, tunnel=tunnel)
    (link,) = record.projects
    return replace(
        record,
        machine=replace(record.machine, ssh=ssh),
        projects=(replace(link, connected=connected),),
    )


def job(
    name: str = "train-261121-aaaa",
    state: JobState = JobState.SUCCEEDED,
    *,
    gives_back: bool = True,
    request_id: str = "request-1",
) -> JobRecord:
    return JobRecord(
        id=name,
        name="train",
        runtime="colab",
        request_id=request_id,
        argv=("train.py",),
        created=NOW - HOUR,
        state=state,
        ended=NOW if state.is_end else None,
        gives_back=gives_back,
    )


RUNNING = job("eval-261121-bbbb", JobState.RUNNING, gives_back=False)


@pytest.mark.parametrize(
    ("record", "jobs", "why"),
    [
        (rented(), [job()], "train-261121-aaaa has ended"),
        (rented(), [job(state=JobState.RUNNING)], ""),
        (rented(), [job(), RUNNING], ""),
        (rented(), [job(gives_back=False)], ""),
        (rented(), [job(request_id="of the machine before")], ""),
        (rented(connected=NOW + HOUR), [job()], ""),
        (rented(ttl_ends=NOW - HOUR), [RUNNING], "its ttl is over"),
        (rented(ttl_ends=NOW + HOUR), [], ""),
        (make_record(), [job()], ""),
    ],
)
def test_reason_to_give_back(record: RuntimeRecord, jobs: list[JobRecord], why: str) -> None:
    assert why_give_back(record, jobs, NOW) == why


def test_tunnel_changes_nothing_of_which_runtimes_can_leave() -> None:
    for provider in ("colab", "local"):
        for tunnel in TUNNELS[provider]:
            typed = Typed(provider=provider, tunnel=tunnel)
            request = plan_connect(typed, None, known_providers=TUNNELS)
            record = replace(rented(), provider=provider, tunnel=request.tunnel)
            assert request.can_leave == record.can_leave == (provider == "colab")
            assert bool(why_give_back(record, [job()], NOW)) == record.can_leave


def test_what_is_left_alone_says_whether_it_waits_for_a_computer() -> None:
    drive = CheckpointWish("runs", 3, ("drivefs", "pull"), "confirmed", "")
    assert "a computer a copy of the newest checkpoint" in how_it_leaves(drive)
    for wish in (None, replace(drive, accept="published"), replace(drive, stores=("driveapi",))):
        assert how_it_leaves(wish).endswith("Drive has all of it")


def test_runtime_that_has_gone_went_as_it_was_to_go_or_was_lost() -> None:
    assert how_it_went(rented(), [job()], NOW) == "once train-261121-aaaa had ended"
    assert how_it_went(rented(ttl_ends=NOW - HOUR), [], NOW) == "at the end of its ttl"
    assert how_it_went(rented(ttl_ends=NOW + HOUR), [RUNNING], NOW) == ""


@dataclass
class World:
    """A keeper's state files, with a clock, and what giving back comes to."""

    store: FileStore
    jobs: FileJobStore
    passed_s: float = 0.0
    problem: str = ""
    tried: int = 0

    def parting(self) -> Parting:
        return Parting(
            "colab",
            runtimes=self.store,
            jobs=self.jobs,
            give_back=self._give_back,
            clock=lambda: self.passed_s,
        )

    def _give_back(self, record: RuntimeRecord) -> str:
        assert record.request_id == "request-1"
        self.tried += 1
        return self.problem


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(FileStore(tmp_path), FileJobStore(tmp_path))


def test_whoever_followed_the_job_has_the_first_word(world: World) -> None:
    world.store.save(rented())
    world.jobs.create(job())
    parting = world.parting()
    parting.look()
    world.passed_s = COURTESY_S - 1
    parting.look()
    assert world.tried == 0
    world.passed_s = COURTESY_S
    parting.look()
    assert world.tried == 1


def test_refusal_is_said_and_tried_again_ever_more_rarely(world: World) -> None:
    world.store.save(rented(ttl_ends=NOW - HOUR))
    world.problem = "x.py changed on both sides"
    parting = world.parting()
    parting.look()
    assert world.tried == 1
    for delay_s in (RETRY_FIRST_S, 2 * RETRY_FIRST_S):
        before = world.tried
        world.passed_s += delay_s - 1
        parting.look()
        assert world.tried == before
        world.passed_s += 1
        parting.look()
        assert world.tried == before + 1
    assert parting.notice.startswith("its ttl is over, and it could not be given back: x.py")
    world.store.save(rented(ttl_ends=NOW + HOUR))
    parting.look()
    assert parting.notice == ""


def test_runtime_that_is_given_back_already_is_left_alone(world: World) -> None:
    world.store.save(replace(rented(ttl_ends=NOW - HOUR), phase=Phase.RELEASING))
    world.parting().look()
    assert world.tried == 0
