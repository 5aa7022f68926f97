"""What `connect` is to do, decided from the command line and the project alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from colabdev.core.names import check_project_name, check_runtime_name
from colabdev.errors import UsageError, unknown_word
from colabdev.models import RuntimeRecord

DEFAULT_PROVIDER = "colab"


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """What `connect` was asked for, checked for all that can be checked on this computer."""

    name: str
    provider: str
    project_path: str | None = None
    project_name: str | None = None
    python: str | None = None
    """The python3 that a local runtime is to have; None: the one a new shell finds."""


@dataclass(frozen=True, slots=True)
class ProjectWishes:
    """What a project says of itself and of its runtime."""

    path: str
    name: str
    provider: str | None = None
    tunnel: str = "auto"


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands on `connect`'s command line."""

    name: str | None = None
    provider: str | None = None
    python: str | None = None


def plan_connect(
    typed: Typed,
    project: ProjectWishes | None,
    *,
    known_providers: Collection[str],
    up: RuntimeRecord | None = None,
) -> ConnectRequest:
    """The request; `UsageError` names what cannot be done as typed. `up` is the runtime that this may
    be about: the one of the name that was typed, or with nothing typed the one this project connected
    to last. Typed again, `connect` reconnects."""
    wished = project.provider if project else None
    again = up is not None and (typed.name is not None or wished in (None, up.provider))
    known = up.provider if up is not None and again else None
    chosen = next(
        word for word in (typed.provider, known, wished, DEFAULT_PROVIDER) if word is not None
    )
    name = typed.name
    if name is None:
        name = up.name if up is not None and chosen == known else chosen
    if chosen not in known_providers:
        raise UsageError(
            unknown_word("provider", chosen, known_providers),
            hint="colabdev connect --provider local needs no account",
        )
    if chosen == "local" and project is not None and project.tunnel not in ("auto", "direct"):
        raise UsageError(
            f"this version reaches a local runtime directly, not by tunnel {project.tunnel!r}",
            hint='set tunnel = "auto" in colabdev.toml',
        )
    if typed.python is not None and chosen != "local":
        raise UsageError(
            f"--python chooses the Python of a local runtime; {chosen!r} brings its own",
            hint="leave --python out",
        )
    return ConnectRequest(
        name=check_runtime_name(name),
        provider=chosen,
        project_path=project.path if project else None,
        project_name=check_project_name(project.name) if project else None,
        python=typed.python,
    )
