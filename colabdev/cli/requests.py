"""What was typed, together with what the project's settings say, as requests to the services.

Imports stand inside functions here, as in `cli.wiring`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from colabdev.cli import standing
from colabdev.errors import UsageError

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.models import Begin, HardwareWish, RuntimeRecord
    from colabdev.ports import Progress
    from colabdev.services.plan import ConnectRequest, ProjectWishes
    from colabdev.services.starts import CheckpointWish, ProgressWish, RunRequest
    from colabdev.services.warm_start import WantedEnvironment

PROVIDERS = ("colab", "notebook", "local", "ssh")


def connect_request(
    wiring: Wiring,
    name: str | None,
    provider: str | None,
    python: str | None,
    host: str | None,
    hardware: HardwareWish | None = None,
    *,
    tunnel: str | None = None,
    allow_ip: Sequence[str] = (),
    ngrok_url: str | None = None,
    code: str | None = None,
) -> ConnectRequest:
    """What `connect` is to bring up."""
    from colabdev.models import NO_WISH
    from colabdev.services.plan import Typed, plan_connect

    project = standing.find_own_project()
    if python is not None:
        python = wiring.checked_python(python)
    up = _may_be_up(wiring, name, provider, project, has_code=code is not None)
    typed = Typed(
        name,
        provider,
        python,
        host,
        hardware or NO_WISH,
        tunnel,
        tuple(allow_ip),
        ngrok_url,
        wiring.notebooks().take_code(code) if code is not None else None,
    )
    request = plan_connect(
        typed,
        _project_wishes(project) if project is not None else None,
        known_providers=PROVIDERS,
        up=up,
        has_ngrok_token=wiring.has_ngrok_token,
    )
    _check_can_be_had(wiring, request)
    return request


def _project_wishes(project: standing.OwnProject) -> ProjectWishes:
    from colabdev.services.plan import ProjectWishes

    path, name = str(project.path), project.name
    if project.settings is None:
        return ProjectWishes(path=path, name=name)
    wished = project.settings.runtime
    return ProjectWishes(
        path=path,
        name=name,
        provider=wished.provider,
        tunnel=wished.tunnel,
        host=wished.host,
        gpu=wished.gpu,
        ttl_s=wished.ttl_s,
        max_units=wished.max_units,
    )


def _may_be_up(
    wiring: Wiring,
    name: str | None,
    provider: str | None,
    project: standing.OwnProject | None,
    *,
    has_code: bool,
) -> RuntimeRecord | None:
    """The runtime that what was typed may be about; see `plan_connect`."""
    from colabdev.core.names import check_runtime_name

    if name is not None:
        return wiring.store().load(check_runtime_name(name))
    if provider is None and has_code:
        return wiring.store().load("notebook")
    if provider is None:
        return wiring.runtimes().last_of_project(str(project.path) if project else None)
    return wiring.store().load(provider) if provider in PROVIDERS else None


def _check_can_be_had(wiring: Wiring, request: ConnectRequest) -> None:
    """Refuse what is known not to work, before anything is started for it."""
    if request.provider == "local":
        wiring.check_local_system()
    if request.provider == "colab":
        wiring.colab().check_login()
    if request.provider == "notebook":
        wiring.notebooks().provider().check(request.name)
    if request.tunnel is not None:
        wiring.check_tunnel(request.tunnel.kind)


def hardware_wish(
    gpu: str | None, *, high_memory: bool = False, wait: bool = False, adopt: str | None = None
) -> HardwareWish:
    """What was typed of the machine."""
    from colabdev.models import HardwareWish
    from colabdev.services.plan import accelerator_names

    return HardwareWish(accelerator_names(gpu), high_memory=high_memory, wait=wait, adopt=adopt)


def run_request(
    words: Sequence[str],
    *,
    module: str | None,
    runtime: str | None,
    name: str | None,
    env: Sequence[str],
    in_place: bool,
    sync: bool,
    window: tuple[int, int] | None,
    stdin: str,
    terminal: Mapping[str, str],
    filed: Mapping[str, str] | None = None,
    env_files: Sequence[Path] = (),
    timeout: str | None = None,
    requirements: str | None = None,
    unattended: bool = False,
    gives_back: bool = False,
) -> RunRequest:
    """What `run` is to start; `runtime` is the one named, `terminal` what this terminal sets, `filed`
    what stands in files of variables."""
    from dataclasses import replace

    from colabdev.config.requirements import find_requirements
    from colabdev.config.scripts import Standpoint, find_program, parse_variables
    from colabdev.services.starts import RunRequest

    project = standing.find_own_project()
    here = standing.working_directory()
    standpoint = Standpoint(here, project.path if project else None, here=sync)
    program = find_program(words, standpoint, module=module, name=name)
    required = None
    if requirements is not None:
        required = find_requirements(requirements, standpoint)
    elif project is not None and project.settings is not None and project.settings.job.requirements:
        # Named in colabdev.toml, so from where that stands.
        beside = replace(standpoint, cwd=project.path)
        required = find_requirements(project.settings.job.requirements, beside)
    typed = parse_variables(env)
    gpu: tuple[str, ...] = ()
    max_units = None
    if project is not None and project.settings is not None:
        gpu, max_units = project.settings.runtime.gpu, project.settings.runtime.max_units
    return RunRequest(
        program=program,
        runtime=runtime,
        project_path=str(project.path) if project else None,
        project_name=project.name if project else None,
        env={**terminal, **_listed_variables(project), **(filed or {}), **typed},
        in_place=in_place,
        sync=sync,
        window=window,
        stdin=stdin,
        timeout_s=_timeout_s(timeout),
        gives_back=gives_back,
        gpu=gpu,
        max_units=max_units,
        requirements=required,
        keeps_environment=_keeps_environment(project),
        checkpoints=_checkpoint_wish(project, unattended=unattended),
        progress=_progress_wish(project),
        env_files=_in_folder(project.path, (here / file for file in env_files)) if project else (),
    )


def _keeps_environment(project: standing.OwnProject | None) -> bool:
    return project is None or project.settings is None or project.settings.job.keep_environment


def keeps_editor() -> bool:
    """Whether the project we stand in wants editors' servers to be kept on Drive."""
    project = standing.find_own_project()
    return bool(project and project.settings and project.settings.runtime.keep_editor)


def wanted_environment() -> WantedEnvironment | None:
    """What the jobs of the project we stand in have installed by its settings, where that is kept."""
    from colabdev.config.requirements import find_requirements
    from colabdev.config.scripts import Standpoint
    from colabdev.services.warm_start import WantedEnvironment

    project = standing.find_own_project()
    if project is None or project.settings is None or not _keeps_environment(project):
        return None
    typed = project.settings.job.requirements
    if not typed:
        return None
    try:
        required = find_requirements(typed, Standpoint(project.path, project.path, here=True))
        return WantedEnvironment(required.name, required.every_line(project.path))
    except (UsageError, OSError):
        return None  # The job says it.


def _checkpoint_wish(
    project: standing.OwnProject | None, *, unattended: bool
) -> CheckpointWish | None:
    from colabdev.config.places import drive_api_url
    from colabdev.services.starts import CheckpointWish

    wished = project.settings.checkpoints if project and project.settings else None
    if wished is None or wished.dir is None:
        return None
    return CheckpointWish(
        dir=wished.dir,
        keep=wished.keep,
        stores=wished.stores,
        accept=wished.accept,
        resume=wished.resume,
        api_url=drive_api_url(os.environ),
        unattended=unattended,
        ask=wished.ask,
    )


def _progress_wish(project: standing.OwnProject | None) -> ProgressWish | None:
    from colabdev.services.starts import ProgressWish

    wished = project.settings.job if project and project.settings else None
    if wished is None or (wished.progress is None and wished.steps is None):
        return None
    return ProgressWish(wished.progress, wished.steps)


def filed_variables(wiring: Wiring, files: Sequence[Path]) -> dict[str, str]:
    """What stands in these files; the later counts."""
    from colabdev.config.scripts import check_variables

    variables: dict[str, str] = {}
    for file in files:
        takes = f"{file} takes NAME=VALUE"
        variables |= check_variables(
            wiring.starts().env_file(file), takes=takes, hint="mend that line"
        )
    return variables


def ask_around(
    wiring: Wiring,
    request: RunRequest,
    *,
    secrets: Sequence[str],
    after: Sequence[str],
    after_ok: Sequence[str],
    progress: Progress,
) -> RunRequest:
    """The request with what others must be asked for: secrets, and the jobs that it comes after."""
    from dataclasses import replace

    from colabdev.config.scripts import check_variables
    from colabdev.services.job_order import After

    takes = "--secret takes the name of a variable"
    names = check_variables(dict.fromkeys(secrets, ""), takes=takes, hint="--secret HF_TOKEN")
    jobs = wiring.jobs()
    words = [*((word, False) for word in after), *((word, True) for word in after_ok)]
    before = [After(jobs.find(word, progress), ok=ok) for word, ok in words]
    found = wiring.starts().secret_sources().find(names) if names else {}
    return replace(
        request, env={**request.env, **found}, after=before, secret_names=frozenset(found)
    )


def log_begin(tail: int | None, since: str | None) -> Begin:
    """Where in a log to begin."""
    from colabdev.models import Begin

    return Begin(tail, _seconds(since, "begin it {!r} ago", hint="--since 10m"))


def _in_folder(folder: Path, files: Iterable[Path]) -> Sequence[str]:
    """Those of the files that lie there, by their paths from there."""
    paths = (Path(os.path.normpath(file)) for file in files)
    return [path.relative_to(folder).as_posix() for path in paths if path.is_relative_to(folder)]


def parse_timeout(typed: str) -> float:
    """The seconds that were typed for how long to wait."""
    seconds = _seconds(typed, "wait for {!r}", hint="--timeout 10m")
    assert seconds is not None, "something was typed"
    return seconds


def _timeout_s(typed: str | None) -> float | None:
    return _seconds(typed, "end it after {!r}", hint="--timeout 90m")


def _seconds(typed: str | None, purpose: str, *, hint: str) -> float | None:
    from colabdev.core.times import parse_duration

    if typed is None:
        return None
    try:
        return parse_duration(typed)
    except ValueError:
        option = hint.split(maxsplit=1)[0]
        raise UsageError(
            f"cannot {purpose.format(typed)}: {option} takes a number and s, m, h or d", hint=hint
        ) from None


def own_project_names() -> tuple[str | None, str | None]:
    """Path and name of the project we stand in, if it is one."""
    project = standing.find_own_project()
    return (None, None) if project is None else (str(project.path), project.name)


def job_surroundings() -> tuple[tuple[str | None, str | None], Mapping[str, str]]:
    """Path and name of the project we stand in, and the variables that its jobs get."""
    project = standing.find_own_project()
    if project is None:
        return (None, None), {}
    return (str(project.path), project.name), _listed_variables(project)


def _listed_variables(project: standing.OwnProject | None) -> Mapping[str, str]:
    from colabdev.config.scripts import check_variables

    if project is None or project.settings is None:
        return {}
    return check_variables(
        project.settings.job.env,
        takes="[job] env of colabdev.toml takes NAME and a text",
        hint='mend it: env = { SEED = "1" }',
    )
