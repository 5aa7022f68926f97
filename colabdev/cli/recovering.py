"""What `run` asks, says and does so that a job may continue on a new machine when its own dies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from colabdev.agent import jobdir
from colabdev.cli import output, terminal
from colabdev.core.consent import Offer, describe_bounds, describe_held, offer_consent
from colabdev.errors import ColabdevError

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.models import JobRecord
    from colabdev.models.recovery import Consent
    from colabdev.services.starts import RunRequest


def offer_for(request: RunRequest, provider: str, *, wanted: bool) -> Offer:
    """What can be agreed to for that job on a runtime of that provider."""
    return offer_consent(
        provider,
        has_checkpoints=request.checkpoints is not None,
        wanted=wanted,
        typed_into=request.stdin != jobdir.NO_INPUT,
        max_units=request.max_units,
    )


def agree(offer: Offer, *, yes: bool, is_asked: bool = False) -> Consent | None:
    """What is agreed to, asked for where it must be, and said. `is_asked`: somebody said yes to it."""
    consent = offer.consent
    if consent is None:
        if offer.why_not:
            output.progress(f"if its machine dies it does not continue: {offer.why_not}")
        return None
    if yes and not offer.is_free:
        consent = offer.by_option()
        if consent is None:
            _say_it_ends("--yes agrees to what it costs only where [runtime] max_units is set")
            return None
    elif not offer.is_free:
        if is_asked:
            return consent
        if not terminal.has_keyboard():
            _say_it_ends("nobody is here to be asked; --yes and [runtime] max_units agree")
            return None
        # Enter is yes, as wherever colabdev asks: no loses work, yes at most what the question says.
        return consent if output.agrees(f"{offer.question.capitalize()}?") else None
    output.progress(f"if its machine dies it continues on a new one, {describe_bounds(consent)}")
    return consent


def _say_it_ends(why: str) -> None:
    output.progress(f"if its machine dies it does not continue: {why}")


def hold_secrets(wiring: Wiring, request: RunRequest, job: JobRecord) -> None:
    """Give what may be on no disk to the keeper, which alone can start the job once more, and say so."""
    order = wiring.recovery().plans().order(job.id) if job.continues else None
    if order is None or not order.held:
        return
    try:
        keeper = wiring.keepers().ensure(job.runtime)
        keeper.hold(job.id, {name: request.env[name] for name in order.held})
    except ColabdevError as exc:
        _say_it_ends(f"nobody holds its secrets: {exc.message}")
    else:
        output.progress(describe_held(order.held))
