"""What `status` shows of a Colab account."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from colabdev.cli import output
from colabdev.core.times import format_age, format_time

if TYPE_CHECKING:
    from colabdev.models import Machine, RuntimeStatus
    from colabdev.providers.colab.provider import Overview


def overview_json(overview: Overview, runtimes: Iterable[RuntimeStatus]) -> dict[str, Any]:
    """`account`, `limits` and `elsewhere` of the document."""
    account = overview.account
    left_h = account.hours_left
    return {
        "account": {
            "balance": account.balance,
            "hourly_rate": account.hourly_rate,
            "hours_left": None if left_h is None else round(left_h, 1),
        },
        "limits": [
            _limits(one.record.name, one.record.machine, overview.life_s)
            for one in runtimes
            if one.record.can_leave and one.record.machine is not None
        ],
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
    for one in told["limits"]:
        most = " to ".join(format_age(most_s) for most_s in one["life_s"])
        ttl = f"; its ttl ends at {one['ttl_ends']}" if one["ttl_ends"] else ""
        output.line(f"  {one['name']}: up {format_age(one['age_s'])}, of {most} at most{ttl}")
    for one in told["elsewhere"]:
        output.line(
            f"  made elsewhere: {one['endpoint']} ({one['accelerator']}); "
            f"colabdev connect NAME --provider colab --adopt {one['endpoint']}"
        )


def _limits(name: str, machine: Machine, life_s: tuple[int, int]) -> dict[str, Any]:
    """How old a runtime is, how old it may become with the plans there are, and when its ttl ends."""
    tunnel = machine.ssh.tunnel
    ends = tunnel.keep_until if tunnel is not None and tunnel.gives_back else None
    return {
        "name": name,
        "age_s": int((datetime.now(UTC) - machine.since).total_seconds()),
        "life_s": list(life_s),
        "ttl_ends": None if ends is None else format_time(ends),
    }
