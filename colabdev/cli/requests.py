"""What was typed, together with what the project's settings say, as requests to the services.

Imports stand inside functions here, as in `cli.wiring`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from colabdev.cli import standing

if TYPE_CHECKING:
    from colabdev.cli.wiring import Wiring
    from colabdev.models import HardwareWish
    from colabdev.services.jobs import RunRequest
    from colabdev.services.plan import ConnectRequest

PROVIDERS = ("colab", "notebook", "local", "ssh")


def connect_request(
    wiring: Wiring,
    name: str | None,
    provider: str | None,
    python: str | None,
    host: str | None,
    hardware: HardwareWish,
) -> ConnectRequest:
    """What `connect` is to bring up."""
    from colabdev.core.names import check_runtime_name
    from colabdev.services.plan import ProjectWishes, Typed, plan_connect

    project = standing.find_own_project()
    wishes = None
    if project is not None:
        settings = project.settings
        wishes = ProjectWishes(
            path=str(project.path),
            name=project.name,
            provider=settings.runtime.provider if settings else None,
            tunnel=settings.runtime.tunnel if settings else "auto",
            host=settings.runtime.host if settings else None,
            gpu=settings.runtime.gpu if settings else (),
            ttl_s=settings.runtime.ttl_s if settings else None,
        )
    if python is not None:
        python = wiring.checked_python(python)
    up = None
    if name is not None:
        up = wiring.store().load(check_runtime_name(name))
    elif provider is None:
        up = wiring.runtimes().last_of_project(str(project.path) if project else None)
    elif provider in PROVIDERS:
        up = wiring.store().load(provider)
    request = plan_connect(
        Typed(name, provider, python, host, hardware), wishes, known_providers=PROVIDERS, up=up
    )
    if request.provider == "local":
        wiring.check_local_system()
    if request.provider == "colab":
        wiring.colab().check_login()
    return request


def hardware_wish(
    gpu: str | None, *, high_memory: bool, wait: bool, adopt: str | None
) -> HardwareWish:
    """What was typed of the machine."""
    from colabdev.models import HardwareWish

    names = tuple(word for word in (gpu or "").replace(",", " ").split())
    return HardwareWish(names, high_memory, wait, adopt)


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
) -> RunRequest:
    """What `run` is to start; `runtime` is the one named, `terminal` what this terminal sets."""
    from colabdev.config.scripts import Standpoint, check_variables, find_program, parse_variables
    from colabdev.services.jobs import RunRequest

    project = standing.find_own_project()
    here = standing.working_directory()
    standpoint = Standpoint(here, project.path if project else None, here=sync)
    program = find_program(words, standpoint, module=module, name=name)
    typed = parse_variables(env)
    listed: Mapping[str, str] = {}
    if project is not None and project.settings is not None:
        listed = check_variables(
            project.settings.job.env,
            takes="[job] env of colabdev.toml takes NAME and a text",
            hint='mend it: env = { SEED = "1" }',
        )
    return RunRequest(
        program=program,
        runtime=runtime,
        project_path=str(project.path) if project else None,
        project_name=project.name if project else None,
        env={**terminal, **listed, **typed},
        in_place=in_place,
        sync=sync,
        window=window,
        stdin=stdin,
    )
