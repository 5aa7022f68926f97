"""`run --continue` of a job that another computer started: what Drive knows of it becomes known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from colabdev.cli import output, standing, terminal
from colabdev.cli.on_demand import RuntimeWish, bring_up
from colabdev.cli.requests import job_surroundings
from colabdev.core.consent import Offer, offer_consent
from colabdev.core.job_records import check_is_no_slip
from colabdev.core.redact import is_secret_name
from colabdev.core.times import format_clock
from colabdev.errors import ColabdevError, JobNotFound, UsageError

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.core.run_records import StoredJob
    from colabdev.models import JobRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOver:
    """What was typed beside the job."""

    runtime: RuntimeWish
    env: Mapping[str, str]
    secrets: Sequence[str] = ()
    recovers: bool = True
    """It may continue once more by itself."""


def find_known(wiring: Wiring, word: str) -> JobRecord | None:
    """The job of that id or name that is known here, or on a runtime of this computer's."""
    try:
        return wiring.jobs().find(word, output.progress)
    except JobNotFound:
        return None


def is_half_taken(wiring: Wiring, job: JobRecord) -> bool:
    """Whether it was written down here and no more: whoever did that was killed, maybe before a keeper
    had its secrets."""
    plans = wiring.recovery().plans()
    order = plans.order(job.id)
    return order is not None and order.taken_over and not plans.continuation(job.id).tries


def is_as_taken(wiring: Wiring, job: JobRecord, typed: TakeOver) -> bool:
    """Whether the job was taken over, and by what is typed now; of a secret only its name is known."""
    order = wiring.recovery().plans().order(job.id)
    return (
        order is not None
        and order.taken_over
        and typed.runtime.named in (None, job.runtime)
        and typed.runtime.provider in (None, order.machine.provider)
        and {*typed.secrets} <= {*order.held}
        and all(name in order.held or order.env.get(name) == typed.env[name] for name in typed.env)
    )


def take_over(wiring: Wiring, word: str, typed: TakeOver, *, again: bool = False) -> str:
    """Bring up a runtime, find the job on its Drive, and make it this computer's; its id. `again`: who
    began with that was killed."""
    if not again:
        check_is_no_slip(word, wiring.job_store().ids())
        output.progress(
            f"no job is called {word!r} here; what Drive knows of it is looked up on a runtime"
        )
    project = standing.own_project()
    settings = project.settings

    def offer(provider: str) -> Offer:
        return offer_consent(
            provider,
            has_checkpoints=True,
            wanted=typed.recovers,
            typed_into=False,
            max_units=settings.runtime.max_units if settings else None,
        )

    name, consent = bring_up(wiring, typed.runtime, offer)
    record = wiring.known_runtimes().choose(name, None)
    service = wiring.recovery().taking_over()
    try:
        stored = service.find(record, project.name, word)
        _check_wanted(stored, yes=typed.runtime.yes)
        plain, secret = _variables(wiring, stored, typed)
    except ColabdevError:
        output.progress(f"{name} stays up; colabdev down {name} gives it back")
        raise
    here = wiring.recovery().surroundings(project, plain, tuple(sorted(secret)))
    job = service.write_down(stored, record, here, consent, output.progress)
    if secret:
        wiring.keepers().ensure(name).hold(job.id, secret)
    return job.id


def _check_wanted(stored: StoredJob, *, yes: bool) -> None:
    """Nobody here can ask whether its machine is gone."""
    newest = stored.newest
    began = f", begun {format_clock(newest.started, datetime.now(UTC))}," if newest.started else ""
    where = f"attempt {newest.attempt} of {stored.id}{began} was another computer's"
    if yes:
        return
    if not terminal.has_keyboard():
        raise UsageError(
            f"{where}, and nobody is here to be asked whether its machine is gone",
            hint=f"colabdev run --continue {stored.id} --yes; what still runs there is stopped",
        )
    if not output.agrees(f"{where}. Go on with it here? If it still runs there it is stopped."):
        raise ColabdevError(
            "nothing was started", hint="colabdev checkpoints ls shows what it saves"
        )


def _variables(
    wiring: Wiring, stored: StoredJob, typed: TakeOver
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What it was started with, as far as it can be had here: what may stand in a file, and what not."""
    _, listed = job_surroundings()
    given = {**listed, **typed.env}
    wanted = [name for name in stored.variables if name not in terminal.VARIABLES]
    secret = {name for name in wanted if is_secret_name(name) and name not in given}
    found = wiring.starts().secret_sources().find(sorted({*typed.secrets, *secret}))
    missing = [name for name in wanted if name not in given and name not in found]
    if missing:
        raise UsageError(
            f"{stored.id} was started with {', '.join(missing)}, whose values are on no disk",
            hint=f"--env {missing[0]}=VALUE gives one, --secret {missing[0]} asks for it",
        )
    secret |= {*typed.secrets, *filter(is_secret_name, given)}
    values = {**given, **found}
    return (
        {name: value for name, value in values.items() if name not in secret},
        {name: value for name, value in values.items() if name in secret},
    )
