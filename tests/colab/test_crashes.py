"""Promise 1: kill -9 anywhere, and one command leaves nothing that is billed."""

from __future__ import annotations

import json

import pytest

from tests import test_crash_points as everywhere
from tests.colab.crashes import ASKED, CONNECT, DOWN, GIVEN_BACK
from tests.support.colab_user import ColabHouse
from tests.test_crash_points import crash

TYPED = ("connect", "--provider", "colab")


def test_every_point_of_connect_and_down_is_tried() -> None:
    assert set(CONNECT) == {*everywhere.CONNECT, *ASKED}
    assert set(DOWN) == {*everywhere.DOWN, *GIVEN_BACK}


@pytest.mark.parametrize(
    ("connect", "down"),
    [
        ((*ASKED, "connect.started"), ("down.keeper_stopped", *GIVEN_BACK)),
        pytest.param(CONNECT, DOWN, marks=pytest.mark.long),
    ],
    ids=["where it is billed", "everywhere"],
)
@pytest.mark.timeout(300)
def test_killed_at_one_point_after_another_the_same_runtime_goes_on(
    house: ColabHouse, connect: tuple[str, ...], down: tuple[str, ...]
) -> None:
    house.log_in_by_gcloud()
    for point in connect:
        crash(house, point, *TYPED)
    house.connect_colab()
    assert [one["state"] for one in house.status()] == ["ready"]
    assert house.colab.counters()["runtime made"] == 1
    for point in down:
        crash(house, point, "down", "--all")
    assert house.colabdev("down", "--all").returncode == 0
    house.assert_nothing_is_billed()


@pytest.mark.parametrize(
    "point",
    [
        point if point == "colab.assigned" else pytest.param(point, marks=pytest.mark.long)
        for point in CONNECT
    ],
)
def test_connect_killed_leaves_no_orphan(house: ColabHouse, point: str) -> None:
    house.log_in_by_gcloud()
    crash(house, point, *TYPED)
    assert house.colabdev("down", "--all").returncode == 0
    house.assert_nothing_is_billed()


@pytest.mark.long
@pytest.mark.parametrize("point", DOWN)
def test_down_killed_leaves_no_orphan(house: ColabHouse, point: str) -> None:
    house.log_in_by_gcloud()
    house.connect_colab()
    crash(house, point, "down", "colab")
    house.status()  # Whatever it says, it must neither fail nor bring anything back.
    assert house.colabdev("down", "--all").returncode == 0
    house.assert_nothing_is_billed()


@pytest.mark.long
@pytest.mark.parametrize("point", DOWN)
def test_connect_after_down_was_killed_gives_a_new_runtime(house: ColabHouse, point: str) -> None:
    house.log_in_by_gcloud()
    before = house.connect_colab()
    crash(house, point, "down", "colab")
    after = house.connect_colab()
    assert after.request_id != before.request_id
    (runtime,) = house.colab.describe()["runtimes"]
    assert after.machine is not None
    assert after.machine.ssh.tunnel is not None
    assert after.machine.ssh.tunnel.endpoint == runtime["endpoint"]
    assert house.colabdev("down").returncode == 0
    house.assert_nothing_is_billed()


def test_runtime_whose_state_was_removed_is_given_back(house: ColabHouse) -> None:
    house.log_in_by_gcloud()
    crash(house, "colab.noted", *TYPED)
    house.store.delete("colab")
    assert house.colabdev("down", "--all").returncode == 0
    house.assert_nothing_is_billed()


def test_release_is_proved_by_the_listing_or_said_not_to_be(house: ColabHouse) -> None:
    """What is kept of it leads to it again; `--all` goes on with the others."""
    house.log_in_by_gcloud()
    crash(house, "colab.noted", "connect", "--provider", "colab")
    house.colab.fault("unassign_status", 500)
    refused = house.colabdev("down", "--all", "--json")
    assert refused.returncode == 12
    assert json.loads(refused.stdout)["error"]["message"].startswith("Colab does not release")
    assert house.store.names() == ["colab"]
    house.colab.fault("unassign_status", None)
    house.colab.fault("list_lags", True, times=2)
    before = house.colab.counters()["GET /tun/m/assignments"]
    assert house.colabdev("down", "--all").returncode == 0
    assert house.colab.counters()["GET /tun/m/assignments"] >= before + 3
    house.assert_nothing_is_billed()


@pytest.mark.long
def test_listing_that_never_forgets_keeps_the_record(house: ColabHouse) -> None:
    house.log_in_by_gcloud()
    crash(house, "colab.noted", "connect", "--provider", "colab")
    house.colab.fault("list_lags", True)
    unproven = house.colabdev("down", timeout_s=100)
    assert unproven.returncode == 1
    assert "Colab still lists" in unproven.stderr
    assert house.store.names() == ["colab"]
    house.colab.fault("list_lags", None)
    assert house.colabdev("down").returncode == 0
