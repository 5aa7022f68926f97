"""When a rented runtime is kept alive, and when not any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from colabdev.errors import RuntimeUnreachable
from colabdev.keeper.demand import (
    FUNDS_INTERVAL_S,
    IDLE_S,
    JOBS_INTERVAL_S,
    MOST_SAVING_S,
    UNATTENDED_S,
    Demand,
    Funds,
    Signs,
)

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
TTL_S = 8 * 3600
T = TypeVar("T")


@dataclass
class World:
    """What the demand looks at, with a clock of its own."""

    passed_s: float = 0.0
    has_ttl: bool = True
    idle_s: float = 0.0
    has_job: bool = False
    balance: float = 100.0
    hours_left: float | None = 90.0
    goes_on_without: bool = False
    max_units: float | None = None
    agreed: float = float("-inf")
    """So low the balance may fall for the job there."""
    have_saved: bool = True
    offline: bool = False
    asked: int = 0

    def demand(self) -> Demand:
        signs = Signs(
            idle_s=lambda: self.idle_s,
            keep_until=lambda: START + timedelta(seconds=TTL_S),
            has_ttl=lambda: self.has_ttl,
            max_units=self.max_units,
            has_job=lambda: self._ask(self.has_job),
            funds=lambda: self._ask(Funds(self.balance, self.hours_left, self.goes_on_without)),
            overspent=lambda balance: "train-1" if balance <= self.agreed else "",
            have_saved=lambda: self.have_saved,
        )
        return Demand(
            signs,
            clock=lambda: self.passed_s,
            now=lambda: START + timedelta(seconds=self.passed_s),
        )

    def _ask(self, answer: T) -> T:
        self.asked += 1
        if self.offline:
            raise RuntimeUnreachable("cannot reach it")
        return answer


def test_used_runtime_is_kept_until_its_ttl() -> None:
    world = World()
    demand = world.demand()
    assert demand.is_wanted()
    world.passed_s = TTL_S - 1
    assert demand.is_wanted()
    world.passed_s = TTL_S
    assert not demand.is_wanted()
    assert demand.notice.startswith("its ttl is over")
    world.has_ttl = False
    assert not demand.is_wanted()
    assert demand.notice.startswith(
        "it is as old as Colab lets a runtime become at least: it is not"
    )
    assert demand.let_go == "", "it died of its age, if nobody set a ttl"


def test_idle_runtime_is_kept_only_for_a_job_and_again_when_it_is_used() -> None:
    world = World(idle_s=IDLE_S + 1, has_job=True)
    demand = world.demand()
    assert demand.is_wanted()
    world.has_job = False
    world.passed_s += JOBS_INTERVAL_S
    assert not demand.is_wanted()
    assert demand.notice.startswith("unused for 1 h and without a job")
    assert demand.let_go == demand.notice
    world.idle_s = 0
    assert demand.is_wanted()
    assert demand.notice == ""


def test_runtime_is_not_kept_once_the_balance_is_used_up() -> None:
    world = World()
    demand = world.demand()
    assert demand.is_wanted()
    world.balance = 0
    world.passed_s += FUNDS_INTERVAL_S - 1
    assert demand.is_wanted()
    world.passed_s += 1
    assert not demand.is_wanted()
    world.goes_on_without = True
    world.passed_s += FUNDS_INTERVAL_S
    assert demand.is_wanted()


def test_balance_that_does_not_last_is_said_while_it_is_kept() -> None:
    demand = World(hours_left=1.5).demand()
    assert demand.is_wanted()
    assert demand.notice == "the balance of compute units lasts for 1.5 h of what runs now"


def test_unattended_work_costs_no_more_than_it_may() -> None:
    """What is spent while somebody uses it does not count, nor what was spent before."""
    world = World(max_units=20, has_job=True)
    demand = world.demand()

    def spend(units: float) -> bool:
        world.balance -= units
        world.passed_s += FUNDS_INTERVAL_S
        return demand.is_wanted()

    assert spend(30)
    world.idle_s = UNATTENDED_S + 1
    assert spend(15)
    assert not spend(5)
    assert demand.notice.startswith("unattended it has cost 20.0 compute units")
    world.idle_s = 0
    assert demand.is_wanted()
    world.idle_s = UNATTENDED_S + 1
    assert spend(19)


def test_what_cannot_be_asked_changes_nothing() -> None:
    world = World(idle_s=IDLE_S + 1, offline=True)
    demand = world.demand()
    assert demand.is_wanted()
    asked = world.asked
    assert demand.is_wanted()
    assert world.asked == asked


def test_nothing_is_asked_of_the_runtime_while_it_is_used() -> None:
    world = World()
    demand = world.demand()
    for _ in range(10):
        demand.is_wanted()
    assert world.asked == 1


def test_job_that_went_on_costs_no_more_than_was_agreed_also_while_somebody_looks_on() -> None:
    world = World(agreed=80, balance=81)
    demand = world.demand()
    assert demand.is_wanted()
    world.balance = 80
    world.passed_s += FUNDS_INTERVAL_S
    assert not demand.is_wanted()
    assert demand.let_go.startswith("train-1 has cost all that was agreed to")


def test_runtime_that_nobody_pays_for_is_kept_until_its_jobs_have_saved_and_not_for_ever() -> None:
    world = World(balance=0, have_saved=False)
    demand = world.demand()
    assert demand.is_wanted()
    assert demand.is_unpaid
    assert demand.notice == demand.let_go != ""
    world.have_saved = True
    assert not demand.is_wanted()
    world.balance, world.have_saved = 1, False
    world.passed_s += FUNDS_INTERVAL_S
    assert demand.is_wanted()
    assert not demand.is_unpaid
    world.balance = 0
    world.passed_s += FUNDS_INTERVAL_S
    assert demand.is_wanted()
    world.passed_s += MOST_SAVING_S
    assert not demand.is_wanted()


def test_runtime_without_a_job_is_not_kept_for_any_to_save() -> None:
    demand = World(idle_s=IDLE_S + 1, have_saved=False).demand()
    assert not demand.is_wanted()
