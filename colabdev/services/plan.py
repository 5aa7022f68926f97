"""What `connect` is to do, decided from the command line and the project alone."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from colabdev.core.connection_codes import Told
from colabdev.core.names import check_project_name, check_runtime_name
from colabdev.core.ssh_hosts import parse_destination
from colabdev.core.tunnels import (
    AUTO,
    NGROK,
    NOTEBOOK,
    OWN_WAYS,
    choose_tunnel,
    describe_tunnel,
    own_way,
    tunnel_use,
)
from colabdev.errors import UsageError, unknown_word
from colabdev.models import LEAVING_PROVIDERS, NO_WISH, DriveWish, HardwareWish, RuntimeRecord
from colabdev.models.tunnels import TunnelUse

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
    host: str | None = None
    """The user's own host that is to be the runtime."""
    hardware: HardwareWish = NO_WISH
    drive: DriveWish = DriveWish.ASK
    tunnel: TunnelUse | None = None
    """The tunnel that is to reach it; None: the provider's own way."""
    tunnel_line: str = ""
    """Which that is, why, and what Google's terms say of it."""

    @property
    def can_leave(self) -> bool:
        """The runtime will be able to give itself back, without a computer."""
        return self.provider in LEAVING_PROVIDERS

    @property
    def under_another_name(self) -> str:
        """What to type when the name is taken."""
        words = ["colabdev", "connect", f"{self.name}-2", "--provider", self.provider]
        host = [] if self.host is None else ["--host", self.host]
        return f"use another name: {shlex.join([*words, *host])}"


@dataclass(frozen=True, slots=True)
class ProjectWishes:
    """What a project says of itself and of its runtime."""

    path: str
    name: str
    provider: str | None = None
    tunnel: str = "auto"
    host: str | None = None
    gpu: tuple[str, ...] = ()
    ttl_s: int | None = None
    max_units: float | None = None


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands on `connect`'s command line."""

    name: str | None = None
    provider: str | None = None
    python: str | None = None
    host: str | None = None
    hardware: HardwareWish = NO_WISH
    tunnel: str | None = None
    allow_ip: tuple[str, ...] = ()
    ngrok_url: str | None = None
    code: Told | None = None
    """What the cell of a notebook printed."""


def plan_connect(
    typed: Typed,
    project: ProjectWishes | None,
    *,
    known_providers: Collection[str],
    up: RuntimeRecord | None = None,
    has_ngrok_token: Callable[[], bool] = lambda: False,
) -> ConnectRequest:
    """The request; `UsageError` names what cannot be done as typed. `up` is the runtime that this may
    be about: the one of the name that was typed, else of the provider's, or with nothing typed the one
    this project connected to last. Typed again, `connect` reconnects."""
    wished = project.provider if project else None
    implied = "ssh" if typed.host is not None else NOTEBOOK if typed.code is not None else None
    again = up is not None and (typed.name is not None or wished in (None, up.provider))
    known = up.provider if up is not None and again else None
    named = typed.name if typed.name in known_providers else None
    chosen = next(
        word
        for word in (typed.provider, known, implied, named, wished, DEFAULT_PROVIDER)
        if word is not None
    )
    name = typed.name
    if name is None:
        name = up.name if up is not None and chosen == known else chosen
    if chosen not in known_providers:
        raise UsageError(
            unknown_word("provider", chosen, known_providers),
            hint="colabdev connect --provider local needs no account",
        )
    if typed.code is not None and chosen != NOTEBOOK:
        raise UsageError(
            f"--code is of a notebook's machine; {chosen!r} brings its own",
            hint="leave --code out, or say --provider notebook",
        )
    if typed.python is not None and chosen != "local":
        raise UsageError(
            f"--python chooses the Python of a local runtime; {chosen!r} brings its own",
            hint="leave --python out",
        )
    going_on = up if up is not None and up.name == name and up.provider == chosen else None
    tunnel, tunnel_line = _tunnel(typed, project, chosen, going_on, has_ngrok_token)
    return ConnectRequest(
        name=check_runtime_name(name),
        provider=chosen,
        project_path=project.path if project else None,
        project_name=check_project_name(project.name) if project else None,
        python=typed.python,
        host=_host(typed, project, chosen=chosen, name=name, up=up),
        hardware=_hardware(typed, project, chosen=chosen),
        tunnel=tunnel,
        tunnel_line=tunnel_line,
    )


def _tunnel(
    typed: Typed,
    project: ProjectWishes | None,
    provider: str,
    going_on: RuntimeRecord | None,
    has_ngrok_token: Callable[[], bool],
) -> tuple[TunnelUse | None, str]:
    """The tunnel, None for the provider's own way; and what is said of it. A runtime that goes on keeps
    its own until another is typed."""
    if provider == NOTEBOOK:
        return None, _tunnel_of_notebook(typed)
    if typed.tunnel is None and going_on is not None and not (typed.allow_ip or typed.ngrok_url):
        use = going_on.tunnel
        kind = use.kind if use is not None else own_way(provider)
        return use and use.wish, describe_tunnel(provider, kind, "it was connected by that before")
    wished = typed.tunnel
    if wished is None and (typed.allow_ip or typed.ngrok_url):
        wished = going_on.tunnel.kind if going_on and going_on.tunnel else NGROK
    choice = choose_tunnel(
        provider,
        wished or (project.tunnel if project is not None else AUTO),
        has_ngrok_token=has_ngrok_token,
    )
    line = describe_tunnel(provider, choice.kind, choice.reason)
    use = tunnel_use(choice.kind, allow_ip=typed.allow_ip, url=typed.ngrok_url)
    return (None if choice.kind in OWN_WAYS else use), line


def _tunnel_of_notebook(typed: Typed) -> str:
    """What is said of the tunnel that the cell has opened already."""
    if typed.tunnel or typed.allow_ip or typed.ngrok_url:
        raise UsageError(
            "the tunnel to a notebook's machine is opened by its cell, not by connect",
            hint="colabdev notebook --tunnel cloudflared prints a cell",
        )
    kind = typed.code.tunnel if typed.code is not None else "as before"
    return describe_tunnel(NOTEBOOK, kind, "the notebook's cell opened it")


def accelerator_names(typed: str | None) -> tuple[str, ...]:
    """What was typed as `--gpu`: names, in the order of preference."""
    return tuple((typed or "").replace(",", " ").split())


def _hardware(typed: Typed, project: ProjectWishes | None, *, chosen: str) -> HardwareWish:
    """What is to be rented; what was not typed stands in the project's settings."""
    if chosen != "colab":
        if typed.hardware != NO_WISH:
            raise UsageError(
                f"--gpu, --high-mem, --wait and --adopt are for provider 'colab', not {chosen!r}",
                hint="leave them out, or say --provider colab",
            )
        return typed.hardware
    if project is None:
        return typed.hardware
    # A runtime that is up stays what it is, whatever the settings say by now.
    return replace(
        typed.hardware, preferred=project.gpu, ttl_s=project.ttl_s, max_units=project.max_units
    )


def _host(
    typed: Typed, project: ProjectWishes | None, *, chosen: str, name: str, up: RuntimeRecord | None
) -> str | None:
    """The host of the user's own that is meant; None when the provider brings its own machines."""
    if chosen != "ssh":
        if typed.host is None:
            return None
        raise UsageError(
            f"--host names a host of your own; {chosen!r} brings its own machines",
            hint=f"colabdev connect my-host --provider ssh --host {shlex.quote(typed.host)}",
        )
    known = up.host if up is not None and up.name == name and up.provider == chosen else None
    # Whoever names a runtime that is up means that one, whatever project they stand in.
    wished = project.host if project is not None and not (typed.name and known) else None
    host = next((text for text in (typed.host, wished, known) if text is not None), None)
    if host is None:
        raise UsageError(
            "provider 'ssh' uses a host of your own, and none is named",
            hint=f"colabdev connect {name} --provider ssh --host me@gpu.example.com",
        )
    if parse_destination(host).host == name:
        raise UsageError(
            f"the runtime cannot have its host's own name, {name!r}: then that would mean two things to "
            "ssh",
            hint=f"colabdev connect {name}-dev --provider ssh --host {shlex.quote(host)}",
        )
    return host


def check_same_provider(record: RuntimeRecord, request: ConnectRequest) -> None:
    """A name belongs to one provider; `UsageError` when this one is another's."""
    if record.provider != request.provider:
        raise UsageError(
            f"the name {record.name!r} is taken by a runtime of provider {record.provider!r}",
            hint=request.under_another_name,
        )


def check_same_machine(record: RuntimeRecord, request: ConnectRequest) -> None:
    """A runtime that goes on stays what it is; `UsageError` for what would make it another."""
    if request.host is not None and request.host != record.host:
        raise UsageError(
            f"{record.name!r} is the host {record.host!r} already, and not {request.host!r}",
            hint=f"{request.under_another_name}; or first: colabdev down {record.name}",
        )
    if request.python is not None and request.python != record.python:
        raise UsageError(
            f"{record.name!r} runs with {record.python or 'the python3 of a new shell'}, and a machine "
            "keeps its Python",
            hint=f"colabdev down {record.name}, then connect it with the other one",
        )
