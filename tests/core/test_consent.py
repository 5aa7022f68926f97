"""What is offered, asked and said before a job may continue on a new machine."""

from __future__ import annotations

import pytest

from colabdev.core.consent import Offer, describe_held, offer_consent
from colabdev.models.recovery import ASKED, BY_OPTION, FREE, Consent


def offer(
    provider: str = "colab",
    *,
    has_checkpoints: bool = True,
    wanted: bool = True,
    typed_into: bool = False,
    max_units: float | None = None,
) -> Offer:
    return offer_consent(
        provider,
        has_checkpoints=has_checkpoints,
        wanted=wanted,
        typed_into=typed_into,
        max_units=max_units,
    )


@pytest.mark.parametrize(("limit", "units"), [(None, "8"), (2.5, "2.5"), (20, "20")])
def test_what_costs_is_asked_for_with_its_bounds(limit: float | None, units: str) -> None:
    offered = offer(max_units=limit)
    assert offered.question == (
        f"if its machine dies the job continues on a new one, up to 3 times, at most {units} units"
    )
    assert offered.consent == Consent(3, float(units), ASKED)


def test_nobody_agrees_beforehand_to_an_amount_that_nobody_named() -> None:
    assert offer().by_option() is None
    assert offer(max_units=20).by_option() == Consent(3, 20, BY_OPTION)


def test_what_costs_nothing_needs_no_question() -> None:
    offered = offer("local", max_units=20)
    assert (offered.question, offered.is_free) == ("", True)
    assert offered.consent == Consent(3, None, FREE)


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        (offer("ssh"), "a host of your own is not replaced by colabdev"),
        (offer("notebook"), "a notebook's machine is started by hand"),
        (offer("local", typed_into=True), "what is typed into it is not there a second time"),
        (offer(has_checkpoints=False), ""),
        (offer("ssh", has_checkpoints=False), ""),
        (offer(wanted=False), ""),
        (offer("ssh", wanted=False), ""),
    ],
)
def test_what_cannot_be_is_said_only_where_it_might_be_expected(offered: Offer, why: str) -> None:
    assert (offered.consent, offered.why_not, offered.question) == (None, why, "")


def test_secrets_are_named_as_what_ends_with_the_keeper() -> None:
    assert describe_held(()) == ""
    assert describe_held(["WANDB_API_KEY", "HF_TOKEN"]).endswith(
        "which alone has HF_TOKEN, WANDB_API_KEY"
    )
