"""What `status` shows of a Colab account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from colabdev.cli import output

if TYPE_CHECKING:
    from colabdev.providers.colab.provider import Overview


def overview_json(overview: Overview) -> dict[str, Any]:
    """`account` and `elsewhere` of the document."""
    account = overview.account
    left_h = account.hours_left
    return {
        "account": {
            "balance": account.balance,
            "hourly_rate": account.hourly_rate,
            "hours_left": None if left_h is None else round(left_h, 1),
        },
        "elsewhere": [
            {"endpoint": one.endpoint, "accelerator": one.accelerator} for one in overview.elsewhere
        ],
    }


def overview(told: Mapping[str, Any]) -> None:
    """The same in words; nothing where nobody is logged in."""
    account = told.get("account")
    if account is None:
        return
    if "problem" in account:
        output.say(f"Colab could not be asked: {account['problem']['message']}")
        return
    left = "" if account["hours_left"] is None else f", enough for {account['hours_left']:g} h"
    output.line(
        f"Colab: {account['balance']:g} compute units, {account['hourly_rate']:g} an hour{left}"
    )
    for one in told["elsewhere"]:
        output.line(
            f"  made elsewhere: {one['endpoint']} ({one['accelerator']}); "
            f"colabdev connect NAME --provider colab --adopt {one['endpoint']}"
        )
