"""The user's Drive on a runtime: allowed, mounted, proved to be there, and emptied of what waits."""

from __future__ import annotations

import time
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from colabdev.core.cells import parse_cell, render_cell
from colabdev.errors import (
    AuthNeeded,
    ColabdevError,
    DriveNotAllowed,
    NotSafeToRelease,
    RuntimeUnreachable,
    runtime_lost,
)
from colabdev.models import DriveWish, StartRequest
from colabdev.ports import Progress
from colabdev.providers.colab.client import ColabClient
from colabdev.providers.colab.kernel import Answer, CellFailed, Kernel

DRIVE_DIR = "/content/drive/MyDrive"
CONSENT_TIMEOUT_S = 300.0
MOUNT_TIMEOUT_S = 240.0
"""More than the cell itself waits, by `agent/mounts.py`."""
FLUSH_TIMEOUT_S = 900.0
_FLUSH_CELL_TIMEOUT_S = MOUNT_TIMEOUT_S + FLUSH_TIMEOUT_S + 30
_CONSENT_POLL_S = 2.0
_LOOK_TIMEOUT_S = 30.0
_MODULE = "colabdev_mounts"


@dataclass(frozen=True, slots=True)
class Mended:
    """What it took to have Drive mounted."""

    was: str
    """`mounted`, `absent`, `dead` (whoever served it has gone) or `hung`."""
    aside: str
    """The folder on the runtime that keeps what was written in Drive's place meanwhile, or ""."""


def credential_answers(client: ColabClient, endpoint: str) -> Answer:
    """Answers what a cell asks of its client: Drive's credentials are given, nothing else."""

    def answer(kind: str, request: Mapping[str, Any]) -> str | None:
        if kind != "request_auth" or request.get("authType") != "dfs_ephemeral":
            return f"colabdev does not answer {kind}"
        if client.propagate(endpoint, dry_run=False) is not None:
            return "the user has not allowed it"
        return None

    return answer


def mount_as_wished(
    client: ColabClient, endpoint: str, kernel: Kernel, request: StartRequest, progress: Progress
) -> str | None:
    """Where Drive is on a machine; None, and said, when it cannot be mounted and is not needed."""
    asks = request.drive is DriveWish.ASK
    try:
        mended = mount_drive(client, endpoint, kernel, progress, asks=asks)
    except RuntimeUnreachable:
        raise
    except ColabdevError as exc:
        cause = exc.text if isinstance(exc, CellFailed) else exc.message
        if request.drive is DriveWish.NEED:
            if isinstance(exc, DriveNotAllowed):
                raise
            raise ColabdevError(
                f"{request.name!r} came without Drive: {cause}",
                hint=f"colabdev connect {request.name} mounts it",
            ) from exc
        progress(f"Drive is not mounted: {cause}; nothing of this runtime is kept there")
        return None
    if mended.aside:
        progress(f"what was written in Drive's place was copied there, and is in {mended.aside}")
    return DRIVE_DIR


def mount_drive(
    client: ColabClient, endpoint: str, kernel: Kernel, progress: Progress, *, asks: bool
) -> Mended:
    """Mount Drive, or mend a mount that is of no use; done twice it is done once. What was allowed
    before the cell runs does not count against the time that it has. `DriveNotAllowed` when the user
    has to be asked and `asks` is false."""
    if _look(kernel) == "mounted":
        return Mended("mounted", "")
    page = client.propagate(endpoint, dry_run=True)
    if page is not None and not asks:
        raise DriveNotAllowed(
            "Google asks whether the new runtime may use your Drive",
            hint=f"open {page} and say yes",
        )
    if page is not None:
        _wait_for_consent(client, endpoint, page, progress)
    progress("mounting Drive")
    return _mend(client, endpoint, kernel)


def mend_drive(client: ColabClient, endpoint: str, kernel: Kernel) -> Mended:
    """As `mount_drive`, where nobody sits who could be asked: `AuthNeeded` when somebody has to be."""
    if client.propagate(endpoint, dry_run=True) is not None:
        raise AuthNeeded(
            "Google asks again whether this runtime may use your Drive", hint="colabdev connect"
        )
    return _mend(client, endpoint, kernel)


def mend_runtime(client: ColabClient, endpoint: str) -> Mended:
    """`mend_drive` on a runtime that nobody has a kernel of."""
    assignment = client.find(endpoint)
    if assignment is None:
        raise runtime_lost(endpoint)
    with Kernel(assignment, credential_answers(client, endpoint)) as kernel:
        return mend_drive(client, endpoint, kernel)


def _mend(client: ColabClient, endpoint: str, kernel: Kernel) -> Mended:
    client.propagate(endpoint, dry_run=False)
    told = _run(kernel, 'names["mend"]()', timeout_s=MOUNT_TIMEOUT_S)
    return Mended(str(told["was"]), str(told["aside"]))


def flush_drive(kernel: Kernel) -> None:
    """Have Drive take all that waits on the runtime, for a mount that is gone, too, and unmount it.
    `NotSafeToRelease` when it does not take it."""
    try:
        _run(kernel, f'names["flush"]({FLUSH_TIMEOUT_S})', timeout_s=_FLUSH_CELL_TIMEOUT_S)
    except CellFailed as exc:
        raise NotSafeToRelease(
            f"Drive has not taken all that was written on the runtime: {exc.text}",
            hint="type the command again in a minute; --force gives up what is not there yet",
        ) from exc


def _look(kernel: Kernel) -> str:
    """See `Mended.was`."""
    return str(_run(kernel, 'names["look"]()', timeout_s=_LOOK_TIMEOUT_S))


def _run(kernel: Kernel, expression: str, *, timeout_s: float) -> Any:
    """What that comes to on the runtime, with what `agent/mounts.py` has."""
    source = resources.files("colabdev.agent").joinpath("mounts.py").read_text(encoding="utf-8")
    printed = kernel.run(render_cell(_MODULE, source, expression), timeout_s=timeout_s)
    try:
        return parse_cell(_MODULE, printed)
    except ValueError as exc:
        raise ColabdevError(
            f"cannot make sense of what the runtime says of Drive: {exc}",
            hint="colabdev connect tries again",
        ) from exc


def _wait_for_consent(client: ColabClient, endpoint: str, page: str, progress: Progress) -> None:
    """Have the user allow it, once for each runtime; returns when Colab says that they did."""
    progress("Google asks whether this runtime may use your Drive; say yes in the browser")
    progress(f"if no page opens, open this one: {page}")
    webbrowser.open(page)
    deadline = time.monotonic() + CONSENT_TIMEOUT_S
    while client.propagate(endpoint, dry_run=True) is not None:
        if time.monotonic() >= deadline:
            raise ColabdevError(
                f"Drive was not allowed within {CONSENT_TIMEOUT_S / 60:.0f} minutes",
                hint="colabdev connect asks again",
            )
        time.sleep(_CONSENT_POLL_S)
