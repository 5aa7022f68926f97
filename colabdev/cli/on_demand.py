"""The runtime that `run` runs on: brought up when there is none, given back at the end when wished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from colabdev.cli import output, terminal
from colabdev.cli.recovering import agree
from colabdev.errors import ColabdevError, UsageError
from colabdev.models import RuntimeRecord

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.core.consent import Offer
    from colabdev.models.recovery import Consent
    from colabdev.services.on_demand import Missing
    from colabdev.services.starts import CheckpointWish, Start


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeWish:
    """What was typed of the runtime to run on."""

    named: str | None
    provider: str | None = None
    gpu: str | None = None
    yes: bool = False
    """Nobody is to be asked anything."""
    must_leave: bool = False
    """It must be one that can give itself back."""


def bring_up(
    wiring: Wiring, wish: RuntimeWish, offer_for: Callable[[str], Offer]
) -> tuple[str, Consent | None]:
    """The name of the runtime to run on, and what was agreed to for when its machine dies. Whatever is
    to be asked is asked at once, at a terminal; `offer_for` a provider is what can be agreed to."""
    found = (
        wiring.starts()
        .on_demand()
        .find(
            wish.named,
            wish.provider,
            gpu=wish.gpu,
            project_path=wiring.project_path(),
            must_leave=wish.must_leave,
        )
    )
    if isinstance(found, RuntimeRecord):
        return found.name, agree(offer_for(found.provider), yes=wish.yes)
    offer = offer_for(found.request.provider)
    if not wish.yes:
        _ask_to_start(found, offer)
    output.progress(f"starting {found.offer}")
    consent = agree(offer, yes=wish.yes, is_asked=not wish.yes)
    wiring.runtimes().connect(found.request, output.progress)
    return found.request.name, consent


def _ask_to_start(found: Missing, offer: Offer) -> None:
    """Raises unless somebody says yes to all of it."""
    if not terminal.has_keyboard():
        raise UsageError(
            "no runtime is up, and nobody is here to be asked whether to start one",
            hint=f"colabdev run --yes … starts {found.offer}",
        )
    also = f"; {offer.question}" if offer.question else ""
    if not output.agrees(f"no runtime is up. Start {found.offer}{also}?"):
        without = "; --no-recover starts one for this time alone" if also else ""
        raise ColabdevError(
            "nothing was started", hint=f"colabdev connect says what there is{without}"
        )


def give_back(wiring: Wiring, start: Start) -> None:
    """`--down`: release the runtime when the job has ended and all is safe; else say why it stays. The
    job's own status remains."""
    job = start.starting.told or wiring.job_store().load(start.job.id)
    if job is None or not job.state.is_end:
        why = f"{start.job.id} has not ended"
    else:
        bring = wiring.drive().homecoming().bring
        why = wiring.starts().on_demand().give_back(job.runtime, bring, output.progress)
    if not why:
        output.progress(f"{start.job.runtime} is released")
        return
    output.say(f"colabdev: {start.job.runtime} stays up: {why}")
    if start.job.gives_back:
        output.say(f"  {GIVES_ITSELF_BACK}")
    output.say(f"  next: colabdev down {start.job.runtime}")


def how_it_leaves(checkpoints: CheckpointWish | None) -> str:
    """What a runtime will do that was left alone with a job of such checkpoints."""
    if checkpoints is None or not checkpoints.needs_copy:
        return GIVES_ITSELF_BACK
    return (
        f"{GIVES_ITSELF_BACK}, and a computer a copy of the newest checkpoint; "
        '[checkpoints] accept = "published" lets it go without'
    )


GIVES_ITSELF_BACK = "it gives itself back when its jobs have ended and Drive has all of it"
