"""Promise 1: kill -9 anywhere, and one command leaves nothing that is billed."""

from __future__ import annotations

import json

import pytest

from tests.colab.crashes import CONNECT, DOWN
from tests.support.colab_user import ColabHouse
from tests.test_crash_points import crash


@pytest.mark.parametrize("point", CONNECT)
def test_connect_killed_leaves_no_orphan(house: ColabHouse, point: str) -> None:
    house.log_in_by_gcloud()
    crash(house, point, "connect", "--provider", "colab")
    assert house.colabdev("down", "--all").returncode == 0
    assert house.colab.describe()["runtimes"] == []
    assert house.store.names() == []
    assert list(house.places.colab_dir.glob("*")) == []


@pytest.mark.parametrize("point", ["colab.assigned", "colab.set_up"])
def test_connect_killed_goes_on_with_the_same_runtime(house: ColabHouse, point: str) -> None:
    house.log_in_by_gcloud()
    crash(house, point, "connect", "--provider", "colab")
    house.connect_colab()
    assert house.colab.counters()["runtime made"] == 1


@pytest.mark.parametrize("point", DOWN)
def test_down_killed_goes_on_when_typed_again(house: ColabHouse, point: str) -> None:
    house.log_in_by_gcloud()
    house.connect_colab()
    crash(house, point, "down", "colab")
    assert house.colabdev("down", "--all").returncode == 0
    house.assert_nothing_is_billed()


def test_runtime_whose_state_was_removed_is_given_back(house: ColabHouse) -> None:
    house.log_in_by_gcloud()
    crash(house, "colab.noted", "connect", "--provider", "colab")
    house.store.delete("colab")
    assert house.colabdev("down", "--all").returncode == 0
    assert house.colab.describe()["runtimes"] == []


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
