"""Whether a job may continue on a new machine when its own dies: what can be, what it may cost, and who
has to agree."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from colabdev.core.recovery import FREE as FREE_PROVIDERS
from colabdev.models.recovery import ASKED, BY_OPTION, FREE, Consent

USUAL_UNITS = 8.0
"""What the machines of one job may cost together, where somebody says yes and nothing else is set."""

_CANNOT = {
    "ssh": "a host of your own is not replaced by colabdev",
    "notebook": "a notebook's machine is started by hand",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be agreed to for one job. Empty: there is nothing to agree to, and nothing to say."""

    consent: Consent | None = None
    """As it is when it is agreed to."""
    why_not: str = ""
    """Why it cannot continue, where somebody might have thought so."""
    has_limit: bool = False
    """What it may cost was set by the user, so that also nobody needs to be asked."""

    @property
    def is_free(self) -> bool:
        """It costs nothing: nobody needs to agree."""
        return self.consent is not None and self.consent.agreed == FREE

    @property
    def question(self) -> str:
        """What is asked for, beside whatever else is; "" when nobody needs to be."""
        if self.consent is None or self.is_free:
            return ""
        return (
            f"if its machine dies the job continues on a new one, {describe_bounds(self.consent)}"
        )

    def by_option(self) -> Consent | None:
        """The consent of whoever said yes beforehand to all that is asked; None without a limit."""
        if self.consent is None or not self.has_limit:
            return None
        return replace(self.consent, agreed=BY_OPTION)


def offer_consent(
    provider: str, *, has_checkpoints: bool, wanted: bool, typed_into: bool, max_units: float | None
) -> Offer:
    """What can be agreed to for a job on a runtime of that provider. `wanted` is False for a job that
    is not to continue, `typed_into` True for one that has a keyboard."""
    if not has_checkpoints or not wanted:
        return Offer()
    if provider in _CANNOT:
        return Offer(why_not=_CANNOT[provider])
    if typed_into:
        return Offer(why_not="what is typed into it is not there a second time")
    if provider in FREE_PROVIDERS:
        return Offer(Consent(agreed=FREE))
    limit = USUAL_UNITS if max_units is None else max_units
    return Offer(Consent(max_units=limit, agreed=ASKED), has_limit=max_units is not None)


def describe_bounds(consent: Consent) -> str:
    """How often it continues, and for how much."""
    times = "once" if consent.times == 1 else f"up to {consent.times} times"
    return times if consent.max_units is None else f"{times}, at most {consent.max_units:g} units"


def describe_held(names: Collection[str]) -> str:
    """What it means that a job which may continue has secrets; "" when it has none."""
    if not names:
        return ""
    return (
        "it continues only while this computer's keeper of it runs, which alone has "
        + ", ".join(sorted(names))
    )
