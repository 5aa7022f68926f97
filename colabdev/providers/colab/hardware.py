"""What may be asked for, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from colabdev.errors import NoCapacity, UsageError, unknown_word
from colabdev.providers.colab.client import Accelerator, Account
from colabdev.providers.colab.wire import HOURLY_RATES

DEFAULT = "T4"
"""The cheapest, and the one that free accounts get."""

NONE = Accelerator("none", "DEFAULT")


def choose_accelerators(wanted: Sequence[str], account: Account) -> list[Accelerator]:
    """What to ask for, in order. `UsageError` for a name that Colab does not have, `NoCapacity` when
    the account may have none of them: something dearer is never guessed."""
    known = {**account.ineligible, **account.eligible}
    chosen, barred = [], []
    for typed in wanted or (DEFAULT,):
        name = typed.strip()
        if name.casefold() == NONE.name:
            chosen.append(NONE)
            continue
        found = next((one for one in known if one.casefold() == name.casefold()), None)
        if found is None:
            raise UsageError(
                unknown_word("accelerator", name, [*known, NONE.name]),
                hint="colabdev connect --gpu NAME,NAME takes the first that is free",
            )
        if found in account.eligible:
            chosen.append(Accelerator(found, known[found]))
        else:
            barred.append(found)
    if not chosen:
        may = ", ".join(account.eligible) or "none now"
        raise NoCapacity(
            f"this account may not have {' or '.join(barred)}; it may have: {may}",
            hint="colabdev connect --gpu T4, or a plan that has it",
        )
    return chosen


def price_line(accelerators: Sequence[Accelerator], account: Account, life_s: float) -> str:
    """What it costs, before it is asked for, and whether the balance lasts as long as it may live."""
    prices = []
    for one in accelerators:
        rate = HOURLY_RATES.get(one.name)
        cost = "price not known here" if rate is None else f"about {rate:g} compute units an hour"
        prices.append(f"{one.name} ({cost})")
    asking = f"asking Colab for {', else '.join(prices)}; the balance is {account.balance:g}"
    dearest = max((HOURLY_RATES.get(one.name, 0.0) for one in accelerators), default=0.0)
    rate = account.hourly_rate + dearest
    if rate <= 0 or account.balance <= 0:
        return asking
    left_h = account.balance / rate
    short = f", and that is less than the {life_s / 3600:g} h it may live"
    return f"{asking}, enough for {left_h:.1f} h{short if left_h * 3600 < life_s else ''}"
