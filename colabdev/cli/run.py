"""`run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from colabdev.agent import jobdir
from colabdev.cli import output, render_jobs
from colabdev.cli.attachment import Attachment, Wishes, wishes
from colabdev.cli.boundary import JobStatus
from colabdev.cli.continuing import continue_job
from colabdev.cli.jobs import InteractiveOption, attach, complete_job, end_status, stream_log
from colabdev.cli.on_demand import RuntimeWish, bring_up, give_back, how_it_leaves
from colabdev.cli.options import JsonOption, RuntimeOption
from colabdev.cli.recovering import hold_secrets, offer_for
from colabdev.cli.requests import ask_around, filed_variables, run_request
from colabdev.cli.streams import Screen
from colabdev.cli.taking_over import (
    TakeOver,
    find_known,
    is_as_taken,
    is_half_taken,
    take_over,
)
from colabdev.config.scripts import parse_variables
from colabdev.errors import ExitCode, UsageError
from colabdev.models.recovery import Going

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.services.starts import JobStarter, RunRequest, Start

_MODULE = "-m"


class RunCommand(TyperCommand):
    """Options come before SCRIPT or `-m MODULE`; everything after goes to it untouched."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        ours, theirs = self._split(args)
        return super().parse_args(ctx, [*ours, "--", *theirs] if theirs else ours)

    def _split(self, args: list[str]) -> tuple[list[str], list[str]]:
        takes_value = {
            name
            for parameter in self.params
            if not getattr(parameter, "is_flag", True)
            for name in parameter.opts
        }
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] != "-":
            if args[at] == "--":
                return args[:at], args[at + 1 :]
            is_module = args[at].startswith(_MODULE)
            at += 2 if args[at] in takes_value else 1
            if is_module:
                break
        return args[:at], args[at:]


ScriptArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SCRIPT",
        help="A .py, .sh or .ipynb file of the project; else a command on the runtime.",
    ),
]
WordsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ARGS", help="For it, untouched.")
]
ModuleOption = Annotated[
    str | None, typer.Option(_MODULE, metavar="MODULE", help="Run a module, as `python -m`.")
]
AttachedOption = Annotated[
    bool, typer.Option("--attached", help="Ctrl-C interrupts the job instead of leaving it.")
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Start it, print the job's id, and leave it alone.")
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="The job's name. Default: the script's.")
]
EnvOption = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="K=V", help="A variable for it. Repeatable."),
]
EnvFileOption = Annotated[
    list[Path] | None,
    typer.Option("--env-file", metavar="FILE", help="Its variables, as in .env. Repeatable."),
]
SecretOption = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME",
        help="A variable from the keyring, else from here, else asked for; on no disk. Repeatable.",
    ),
]
TimeoutOption = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="End it then, with status 124: 90m, 8h."),
]
AfterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--after",
        metavar="JOB",
        help="Start it when that one has ended. Repeatable.",
        autocompletion=complete_job,
    ),
]
AfterOkOption = Annotated[
    list[str] | None,
    typer.Option(
        "--after-ok",
        metavar="JOB",
        help="Likewise, but only if that one succeeded.",
        autocompletion=complete_job,
    ),
]
RequirementsOption = Annotated[
    str | None,
    typer.Option(
        "--requirements",
        metavar="FILE",
        help="Install what this file, or a pyproject.toml, lists. Default: colabdev.toml's.",
    ),
]
InPlaceOption = Annotated[
    bool, typer.Option("--in-place", help="Run in the work dir, without a copy of the code.")
]
UnattendedOption = Annotated[
    bool,
    typer.Option(
        "--unattended",
        help="This computer may be off: the runtime may renew its access to Drive by itself.",
    ),
]
NoSyncOption = Annotated[bool, typer.Option("--no-sync", help="Run what is on the runtime now.")]
ProviderOption = Annotated[
    str | None, typer.Option(help="With no runtime up: where to start one, as for connect.")
]
GpuOption = Annotated[str | None, typer.Option(help="Run only where this GPU is, such as T4.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Start a runtime without a question.")]
NoRecoverOption = Annotated[
    bool,
    typer.Option("--no-recover", help="When its machine dies, it does not continue on a new one."),
]
ContinueOption = Annotated[
    str | None,
    typer.Option(
        "--continue",
        metavar="JOB",
        help="Go on with a job whose machine died, on a new one, from its newest checkpoint.",
        autocompletion=complete_job,
    ),
]
AcceptRollbackOption = Annotated[
    bool,
    typer.Option("--accept-rollback", help="With --continue: also from an older checkpoint."),
]
AgreedOption = Annotated[bool, typer.Option("--agreed", hidden=True)]
"""Within what was agreed when the job was started; what is typed without it goes beyond."""
DownOption = Annotated[
    bool,
    typer.Option(
        "--down",
        help="Give the runtime back when it has ended; Colab's also without this computer.",
    ),
]


def run(
    ctx: typer.Context,
    script: ScriptArgument = None,
    arguments: WordsArgument = None,
    module: ModuleOption = None,
    runtime: RuntimeOption = None,
    interactive: InteractiveOption = False,
    attached: AttachedOption = False,
    detach: DetachOption = False,
    name: NameOption = None,
    env: EnvOption = None,
    env_file: EnvFileOption = None,
    secret: SecretOption = None,
    timeout: TimeoutOption = None,
    after: AfterOption = None,
    after_ok: AfterOkOption = None,
    requirements: RequirementsOption = None,
    in_place: InPlaceOption = False,
    no_sync: NoSyncOption = False,
    unattended: UnattendedOption = False,
    provider: ProviderOption = None,
    gpu: GpuOption = None,
    yes: YesOption = False,
    no_recover: NoRecoverOption = False,
    down: DownOption = False,
    continued: ContinueOption = None,
    accept_rollback: AcceptRollbackOption = False,
    agreed: AgreedOption = False,
    as_json: JsonOption = False,
) -> int:
    """Run a program on the runtime, detached, and stream its log here.

    The exit status is the job's own; 125 is ours. Ctrl-C detaches, and so does closing the terminal:
    the job runs on. With [checkpoints] dir it also continues on a new machine when its own dies.

    Run at a terminal it has one, too; with -i its keyboard: Ctrl-C is the job's then, ~. detaches.

    Example: colabdev run train.py --epochs 10
    Example: colabdev run --provider local --yes --down train.py
    Example: colabdev run --gpu T4 --yes --detach --down train.py
    """
    wiring: Wiring = ctx.obj
    sought = RuntimeWish(
        named=wiring.named(runtime),
        provider=provider,
        gpu=gpu,
        yes=yes,
        must_leave=down and detach,
    )
    if continued is not None:
        own = _own_job(ctx, continued, sought, env or (), secret or (), recovers=not no_recover)
        wish = Going(by_hand=not agreed, accept_rollback=accept_rollback)
        return _go_on(ctx, own, wish, detach=detach, as_json=as_json)
    if accept_rollback or agreed or as_json:
        raise UsageError(
            "--accept-rollback and --json are for a job that goes on",
            hint="colabdev run --continue JOB",
        )
    wiring.recovery().hand_overs().tell(output.progress)
    wanted = wishes(interactive=interactive, attached=attached, detach=detach)
    words = [word for word in (script, *(arguments or ())) if word is not None]
    request = run_request(
        words,
        module=module,
        runtime=None,
        name=name,
        env=env or (),
        filed=filed_variables(wiring, env_file or ()),
        env_files=env_file or (),
        timeout=timeout,
        requirements=requirements,
        in_place=in_place,
        sync=not no_sync,
        unattended=unattended,
        window=wanted.window,
        stdin=wanted.stdin,
        terminal=wanted.variables,
        gives_back=down,
    )
    request = ask_around(
        wiring,
        request,
        secrets=secret or (),
        after=after or (),
        after_ok=after_ok or (),
        progress=output.progress,
    )
    chosen, consent = bring_up(wiring, sought, partial(offer_for, request, wanted=not no_recover))
    request = replace(request, runtime=chosen, continues=consent)
    return _start(wiring, request, wanted, detach=detach)


_FOR_A_JOB_OF_ANOTHER_COMPUTER = (
    *("runtime", "provider", "gpu", "yes", "env", "secret", "no_recover"),
)


def _check_alone(ctx: typer.Context, more: Sequence[str]) -> None:
    """A job that goes on does so as it was started; `more`: what else may be said here."""
    allowed = {"continued", "accept_rollback", "agreed", "as_json", "detach", "ctx", *more}
    typed = [name for name, value in ctx.params.items() if value and name not in allowed]
    if typed:
        raise UsageError(
            "--continue goes on with a job as it was started; only --detach, --json and "
            "--accept-rollback go with it",
            hint="colabdev run --continue JOB",
        )


def _own_job(
    ctx: typer.Context,
    word: str,
    sought: RuntimeWish,
    env: Sequence[str],
    secrets: Sequence[str],
    *,
    recovers: bool,
) -> str:
    """The job that is to go on, which is this computer's, or becomes it."""
    wiring: Wiring = ctx.obj
    _check_alone(ctx, _FOR_A_JOB_OF_ANOTHER_COMPUTER)
    variables = parse_variables(env)
    typed = TakeOver(runtime=sought, env=variables, secrets=secrets, recovers=recovers)
    known = find_known(wiring, word)
    if known is None:
        return take_over(wiring, word, typed)
    # The line that took it over may be typed again, because what it started was killed.
    if any(ctx.params[name] for name in _FOR_A_JOB_OF_ANOTHER_COMPUTER):
        if is_half_taken(wiring, known):
            return take_over(wiring, known.id, typed, again=True)
        if not is_as_taken(wiring, known, typed):
            _check_alone(ctx, ("yes",))
    return word


def _go_on(ctx: typer.Context, word: str, wish: Going, *, detach: bool, as_json: bool) -> int:
    wiring: Wiring = ctx.obj
    job = continue_job(wiring, word, wish, as_json=as_json and detach)
    if wish.by_hand:
        wiring.recovery().hand_overs().note(job)  # Who typed it need not be told of it later.
    return ExitCode.OK if detach else attach(ctx, job.id)


def _start(wiring: Wiring, request: RunRequest, wanted: Wishes, *, detach: bool) -> int:
    starter = wiring.starts().starter()
    start = starter.prepare(request, output.progress)
    hold_secrets(wiring, request, start.job)
    if detach:
        return _start_and_leave(starter, start, how_it_leaves(request.checkpoints))
    status = _start_and_follow(wiring, starter, start, wanted)
    if request.gives_back:
        give_back(wiring, start)
    return status


def _start_and_leave(starter: JobStarter, start: Start, ending: str) -> int:
    try:
        starter.start(start, output.progress)
    except KeyboardInterrupt:
        render_jobs.left(start)
        return JobStatus(ExitCode.INTERRUPTED)
    render_jobs.detached(start.job)
    if start.job.gives_back:
        output.progress(f"{start.job.runtime}: {ending}")
    return JobStatus(ExitCode.OK)


def _start_and_follow(wiring: Wiring, starter: JobStarter, start: Start, wanted: Wishes) -> int:
    output.progress(f"job {start.job.id} on {start.job.runtime}")
    screen = Screen()
    jobs = wiring.jobs()
    attachment = Attachment(
        jobs.input(start.job, screen.progress),
        screen,
        stdin=wanted.stdin,
        types=wanted.stdin != jobdir.NO_INPUT,
        pty=wanted.window is not None,
        interrupt=(lambda: jobs.signal(start.job, "INT")) if wanted.attached else None,
    )
    start.starting.when_started = attachment.begin
    log = starter.run(start, screen.progress)
    stopped_by = stream_log(
        log,
        lambda: render_jobs.left(start, in_contact=jobs.in_contact(start.job)),
        screen,
        attachment,
    )
    ended = start.starting.told or wiring.job_store().load(start.job.id)
    return end_status(ended, stopped_by, screen)
