"""The runtime that `run` runs on: brought up when there is none, given back at the end when wished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from colabdev.cli import output, terminal
from colabdev.errors import ColabdevError, UsageError
from colabdev.models import RuntimeRecord

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring


def bring_up(
    wiring: Wiring, named: str | None, provider: str | None, gpu: str | None, *, yes: bool
) -> str:
    """The name of the runtime to run on. Whether to start one is asked once, at a terminal."""
    found = wiring.on_demand().find(named, provider, gpu=gpu, project_path=wiring.project_path())
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


def give_back(wiring: Wiring, runtime: str) -> None:
    """Release the runtime when all is safe; else say why it stays. The job's own status remains."""
    why = wiring.on_demand().give_back(
        runtime, wiring.sync_home(), wiring.bring_home(force=False), output.progress
    )
    if why:
        stays_up(runtime, why)
    else:
        output.progress(f"{runtime} is released")


def stays_up(runtime: str, why: str) -> None:
    """What `--down` did not do."""
    output.say(f"colabdev: {runtime} stays up: {why}")
    output.say(f"  next: colabdev down {runtime}")
