"""What bounds the keeping alive of a runtime, each against the stand-in and by its clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from colabdev.keeper.demand import FUNDS_INTERVAL_S, IDLE_S, Demand, Funds, Signs
from colabdev.providers.colab.client import ColabClient
from colabdev.providers.colab.keepalive import KeepAlive
from colabdev.providers.colab.login import GoogleLogin
from colabdev.providers.colab.wire import Hosts
from tests.support.colab import Colab
from tests.support.colab_user import ColabHouse
from tests.support.waiting import wait_until

STEP_S = 15 * 60
"""Less than what Colab waits before it takes a runtime that nobody holds."""


@dataclass
class Use:
    """How the runtime is used, as far as a test says so."""

    idle_s: float = 0.0
    has_job: bool = False


def test_runtime_is_kept_only_within_its_bounds(house: ColabHouse, colab: Colab) -> None:
    gcloud = {"CLOUDSDK_CONFIG": str(house.log_in_by_gcloud().parent)}
    hosts = Hosts.from_environment(house.environment)
    login = GoogleLogin(house.places.config_dir, hosts, {**house.environment, **gcloud})
    client = ColabClient(hosts, login)
    endpoint = colab.assign("T4")["endpoint"]
    began, use = colab.describe()["now"], Use()

    def clock() -> float:
        return float(colab.describe()["now"])

    def funds() -> Funds:
        account = client.account()
        return Funds(account.balance, account.hours_left)

    signs = Signs(
        idle_s=lambda: use.idle_s,
        keep_until=lambda: datetime.fromtimestamp(began, UTC) + timedelta(hours=8),
        has_ttl=lambda: True,
        max_units=20,
        has_job=lambda: use.has_job,
        funds=funds,
    )
    demand = Demand(signs, clock=clock, now=lambda: datetime.fromtimestamp(clock(), UTC))
    kept = KeepAlive(client, endpoint, is_wanted=demand.is_wanted)
    kept.start()

    def is_held() -> bool:
        found = [one for one in colab.describe()["runtimes"] if one["endpoint"] == endpoint]
        return bool(found and found[0]["kernel_websockets"])

    def check(what: str, *, held: bool, after: Callable[[], None] = lambda: None) -> None:
        after()
        wait_until(lambda: is_held() == held, message=f"{what}: {demand.notice or 'kept'}")

    try:
        check("somebody is connected", held=True)
        use.idle_s = IDLE_S + 1
        check("nobody is there, and nothing runs", held=False)
        use.has_job = True
        check("a job runs", held=True, after=lambda: colab.advance(STEP_S))
        for _ in range(3):
            check("a job runs for long", held=True, after=lambda: colab.advance(STEP_S))
        colab.account(balance=75)
        check("max_units", held=False, after=lambda: colab.advance(FUNDS_INTERVAL_S))
        use.idle_s = 0
        check("somebody came back", held=True)
        colab.account(balance=0)
        check("balance", held=False, after=lambda: colab.advance(FUNDS_INTERVAL_S))
        colab.account(balance=50)
        check("units were bought", held=True, after=lambda: colab.advance(FUNDS_INTERVAL_S))
        while clock() < began + 8 * 3600 - STEP_S:
            check("before its ttl is over", held=True, after=lambda: colab.advance(STEP_S))
        check("ttl", held=False, after=lambda: colab.advance(STEP_S + 60))
        colab.advance(2 * STEP_S)
        wait_until(lambda: colab.describe()["runtimes"] == [], message="Colab did not take it")
        assert colab.describe()["ended"] == {endpoint: "idle"}
    finally:
        kept.stop()
