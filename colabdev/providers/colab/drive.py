"""The user's Drive on a runtime: allowed, mounted, proved to be there, and emptied of what waits."""

from __future__ import annotations

import json
import time
import webbrowser
from collections.abc import Mapping
from typing import Any

from colabdev.errors import ColabdevError, NotSafeToRelease
from colabdev.ports import Progress
from colabdev.providers.colab.client import ColabClient
from colabdev.providers.colab.kernel import Answer, CellFailed, Kernel

MOUNT_POINT = "/content/drive"
DRIVE_DIR = f"{MOUNT_POINT}/MyDrive"
CONSENT_TIMEOUT_S = 300.0
MOUNT_TIMEOUT_S = 180.0
FLUSH_TIMEOUT_S = 900.0
_CONSENT_POLL_S = 2.0
_LOOK_TIMEOUT_S = 20.0
_MARKER = "colabdev-drive "

# A call into a mount that hangs cannot be ended from inside, so a child makes it.
_LOOK = f"""\
import json, os, subprocess, sys
_how = "absent"
if os.path.ismount({MOUNT_POINT!r}):
    try:
        _done = subprocess.run([sys.executable, "-I", "-S", "-c",
            "import os; os.listdir({DRIVE_DIR!r})"], stderr=subprocess.DEVNULL, timeout=10)
        _how = "dead" if _done.returncode else "mounted"
    except subprocess.TimeoutExpired:
        _how = "dead"
print({_MARKER!r} + json.dumps(_how))
"""
_MOUNT = """\
from google.colab import drive as _drive
_drive.mount({place!r}, force_remount={again}, timeout_ms={timeout_ms})
"""
_FLUSH = """\
from google.colab import drive as _drive
_drive.flush_and_unmount(timeout_ms={timeout_ms})
"""


def credential_answers(client: ColabClient, endpoint: str) -> Answer:
    """Answers what a cell asks of its client: Drive's credentials are given, nothing else."""

    def answer(kind: str, request: Mapping[str, Any]) -> str | None:
        if kind != "request_auth" or request.get("authType") != "dfs_ephemeral":
            return f"colabdev does not answer {kind}"
        if client.propagate(endpoint, dry_run=False) is not None:
            return "the user has not allowed it"
        return None

    return answer


def mount_drive(client: ColabClient, endpoint: str, kernel: Kernel, progress: Progress) -> None:
    """Mount Drive, or mend a mount that is dead; done twice it is done once. What was allowed before the
    cell runs does not count against the time that it has."""
    how = _look(kernel)
    if how == "mounted":
        return
    _get_consent(client, endpoint, progress)
    progress("mounting Drive")
    cell = _MOUNT.format(
        place=MOUNT_POINT, again=how == "dead", timeout_ms=int(MOUNT_TIMEOUT_S * 1000)
    )
    kernel.run(cell, timeout_s=MOUNT_TIMEOUT_S + 30)
    if _look(kernel) != "mounted":
        raise ColabdevError(
            f"Drive was mounted, and {DRIVE_DIR} cannot be listed all the same",
            hint="colabdev connect tries again; a My Drive with very many entries is too slow",
        )


def flush_drive(kernel: Kernel) -> None:
    """Have Drive take all that waits on the runtime, and unmount it. `NotSafeToRelease` when it does
    not take it."""
    if _look(kernel) == "absent":
        return
    try:
        kernel.run(
            _FLUSH.format(timeout_ms=int(FLUSH_TIMEOUT_S * 1000)), timeout_s=FLUSH_TIMEOUT_S + 30
        )
    except CellFailed as exc:
        raise NotSafeToRelease(
            f"Drive has not taken all that was written on the runtime: {exc.text}",
            hint="type the command again in a minute; --force gives up what is not there yet",
        ) from exc


def _look(kernel: Kernel) -> str:
    """`mounted`, `dead` (mounted, and of no use) or `absent`."""
    printed = kernel.run(_LOOK, timeout_s=_LOOK_TIMEOUT_S)
    _, _, rest = printed.rpartition(_MARKER)
    return str(json.loads(rest.partition("\n")[0] or '"absent"'))


def _get_consent(client: ColabClient, endpoint: str, progress: Progress) -> None:
    """Have the user allow it, once for each runtime; returns when Colab says that they did."""
    page = client.propagate(endpoint, dry_run=True)
    if page is not None:
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
    client.propagate(endpoint, dry_run=False)
