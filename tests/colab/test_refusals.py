"""What goes wrong before there is a runtime: what is said, the exit code, and that nothing stays."""

from __future__ import annotations

import re
from typing import Any

import pytest

from colabdev.errors import ColabdevError
from colabdev.models import HardwareWish, StartRequest
from tests.support.colab import Colab
from tests.support.colab_user import ColabHouse

FAULTS = [
    ("assign_status", 400, 11, "does not let this account have T4"),
    ("assign_status", 412, 11, "the account has as many as it may have now"),
    ("assign_status", 429, 11, "Colab wants to be asked less often"),
    ("assign_status", 503, 11, "Colab has no T4 free now"),
    ("assign_status", 500, 12, "it answered with 500"),
    ("assign_outcome", 1, 11, "the account's quota for it is used up"),
    ("assign_outcome", 2, 11, "the account has used its time"),
    ("assign_outcome", 5, 11, "Colab has blocked the account"),
    ("assign_outcome", 99, 11, "it answered with outcome 99"),
    ("backend_status", 401, 10, "Google refuses this login"),
    ("backend_status", 403, 10, "Colab does not let this login use"),
    ("backend_status", 500, 12, "Colab answered with 500"),
    ("token_error", "invalid_grant", 10, "has expired or was taken back"),
]


@pytest.mark.parametrize(("fault", "value", "code", "said"), FAULTS)
def test_refusal_is_told_apart_and_leaves_nothing(
    house: ColabHouse, colab: Colab, fault: str, value: Any, code: int, said: str
) -> None:
    """Without a process for each: how a command says what a provider raises is tried elsewhere."""
    house.log_in_by_gcloud()
    colab.fault(fault, value)
    wish = HardwareWish(("T4",))
    request = StartRequest("colab", "one", house.ssh_files.public_key(), hardware=wish)
    with pytest.raises(ColabdevError, match=re.escape(said)) as caught:
        house.colab_provider().start(request, lambda step: None)
    assert caught.value.exit_code == code
    assert caught.value.hint
    assert colab.describe()["runtimes"] == []


def test_what_was_refused_is_forgotten_by_down(house: ColabHouse, colab: Colab) -> None:
    house.log_in_by_gcloud()
    colab.fault("assign_status", 503)
    assert house.colabdev("connect").returncode == 11
    assert house.colabdev("down").returncode == 0
    assert house.store.names() == []
    assert list(house.places.colab_dir.glob("*")) == []


def test_balance_that_does_not_last_is_said_before_anything_is_asked_for(
    house: ColabHouse, colab: Colab
) -> None:
    house.log_in_by_gcloud()
    colab.account(balance=4.28)
    colab.fault("assign_status", 503)
    said = house.colabdev("connect", "--gpu", "T4").stderr
    assert (
        "the balance is 4.28, enough for 4.0 h, and that is less than the 12 h it may live" in said
    )


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        ("T5", 2, "unknown accelerator 'T5'; did you mean 'T4'?"),
        ("H100", 11, "may not have H100; it may have: T4, L4, A100, V5E1"),
    ],
)
def test_accelerator_that_cannot_be_had_is_never_guessed(
    house: ColabHouse, colab: Colab, typed: str, code: int, said: str
) -> None:
    house.log_in_by_gcloud()
    done = house.colabdev("connect", "--gpu", typed)
    assert done.returncode == code
    assert said in done.stderr
    assert not [one for one in colab.requests("/assign") if one["method"] == "POST"]


def test_without_a_balance_ssh_is_refused_until_the_terms_were_read(
    house: ColabHouse, colab: Colab
) -> None:
    house.log_in_by_gcloud()
    colab.account(balance=0)
    refused = house.colabdev("connect")
    assert refused.returncode == 11
    assert "Colab's terms forbid SSH" in refused.stderr
    assert "next: buy units" in refused.stderr
    assert colab.requests("/assign") == []
    house.colabdev("auth", "terms", "--accept")
    colab.fault("assign_status", 503)
    goes_on = house.colabdev("connect")
    assert "you chose to go on" in goes_on.stderr
    assert "Colab has no T4 free now" in goes_on.stderr


def test_without_a_login_the_ways_in_are_explained(house: ColabHouse) -> None:
    done = house.colabdev("connect")
    assert done.returncode == 10
    assert "there is no Google login on this computer. The ways in:" in done.stderr
    assert house.store.names() == []


def test_hardware_is_colabs_alone(house: ColabHouse) -> None:
    done = house.colabdev("connect", "--provider", "local", "--gpu", "T4")
    assert done.returncode == 2
    assert "for provider 'colab', not 'local'" in done.stderr


def test_status_shows_the_account_and_what_was_made_elsewhere(
    house: ColabHouse, colab: Colab
) -> None:
    house.log_in()
    endpoint = colab.assign("T4")["endpoint"]
    assert house.colabdev_json("status") == {
        "schema": 1,
        "runtimes": [],
        "account": {"balance": 97.4, "hourly_rate": 1.07, "hours_left": 91.0},
        "limits": [],
        "elsewhere": [{"endpoint": endpoint, "accelerator": "T4"}],
    }
    shown = house.colabdev("status").stdout
    assert "Colab: 97.4 compute units, 1.07 an hour, enough for 91 h" in shown
    assert f"made elsewhere: {endpoint} (T4)" in shown


def test_status_says_that_colab_could_not_be_asked(house: ColabHouse) -> None:
    house.log_in()
    done = house.type("status", COLABDEV_COLAB_URL="http://127.0.0.1:9")
    assert done.returncode == 0
    assert "Colab could not be asked: cannot reach Colab" in done.stderr
