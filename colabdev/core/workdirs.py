"""Where a project's files are on a runtime."""

from __future__ import annotations

from colabdev.errors import RuntimeLost, runtime_lost
from colabdev.models import Machine, Phase, RuntimeRecord


def usable_machine(runtime: RuntimeRecord) -> Machine:
    """The runtime's machine; `RuntimeLost` when it has none, or none for long."""
    if runtime.machine is None:
        raise RuntimeLost(
            f"the runtime {runtime.name!r} was never started to the end",
            hint=f"colabdev connect {runtime.name}",
        )
    if runtime.phase is Phase.LOST:
        raise runtime_lost(runtime.name)
    if runtime.phase is Phase.RELEASING:
        raise RuntimeLost(
            f"the runtime {runtime.name!r} is being released",
            hint=f"colabdev connect {runtime.name} starts a new one",
        )
    return runtime.machine


def workdir_of(runtime: RuntimeRecord, project_path: str | None, project_name: str | None) -> str:
    """That project's work dir: where it was connected, else by its name; without a project the
    directory of them all."""
    content_dir = usable_machine(runtime).content_dir
    for link in runtime.projects:
        if link.path == project_path:
            return link.workdir
    return content_dir if project_name is None else f"{content_dir}/{project_name}"
