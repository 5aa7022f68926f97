"""The runtime that `run` runs on: brought up when there is none, given back at the end when wished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from colabdev.cli import output, terminal
from colabdev.errors import ColabdevError, UsageError
from colabdev.models import RuntimeRecord

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.services.starts import CheckpointWish, Start


def bring_up(
    wiring: Wiring,
    named: str | None,
    provider: str | None,
    gpu: str | None,
    *,
    yes: bool,
    must_leave: bool = False,
) -> str:
    """The name of the runtime to run on. Whether to start one is asked once, at a terminal. With
    `must_leave` it is one that can give itself back."""
    found = wiring.on_demand().find(
        named, provider, gpu=gpu, project_path=wiring.project_path(), must_leave=must_leave
    )
    if isinstance(found, RuntimeRecord):
        return found.name
    if not yes:
        if not terminal.has_keyboard():
            raise UsageError(
                "no runtime is up, and nobody is here to be asked whether to start one",
                hint=f"colabdev run --yes … starts {found.offer}",
            )
        if not output.agrees(f"no runtime is up. Start {found.offer}?"):
            raise ColabdevError("nothing was started", hint="colabdev connect says what there is")
    output.progress(f"starting {found.offer}")
    wiring.runtimes().connect(found.request, output.progress)
    return found.request.name


def give_back(wiring: Wiring, start: Start) -> None:
    """`--down`: release the runtime when the job has ended and all is safe; else say why it stays. The
    job's own status remains."""
    job = start.starting.told or wiring.job_store().load(start.job.id)
    if job is None or not job.state.is_end:
        why = f"{start.job.id} has not ended"
    else:
        bring = wiring.homecoming().bring
        why = wiring.on_demand().give_back(job.runtime, bring, output.progress)
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
