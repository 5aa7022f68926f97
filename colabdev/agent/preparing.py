"""What a job does before its command runs: it waits for other jobs, it installs what it requires."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any, Dict, List

from . import environments, jobdir, states
from .jobdir import JobFiles
from .prelude import Prelude

_POLL_S = 0.2
_LOOK_S = 2.0
_OURS = 125
"""The exit status of what is no command's own."""
_NOTEBOOK_MODULES = ["ipykernel", "nbclient"]
"""What executes a notebook; packages of the same names bring them."""


def prepare(spec: Dict[str, Any], prelude: Prelude) -> None:
    """Returns when the command may run; what keeps it from that is said, and ends the process."""
    _wait_for(spec.get("after") or [], os.path.dirname(prelude.files.directory), prelude)
    _provide(spec, prelude)
    prelude.tell(jobdir.RUNNING)


def _wait_for(after: List[Dict[str, Any]], root: str, prelude: Prelude) -> None:
    """Until all of those jobs have ended; with `ok` they must have succeeded."""
    if after:
        prelude.tell(jobdir.QUEUED)
    supervisor, next_look = os.getppid(), 0.0
    waiting = {str(row["id"]): bool(row.get("ok")) for row in after}
    while waiting:
        # Most ends appear as a file. One whose supervisor was killed ends without a sound.
        looks, next_look = _is_due(next_look)
        for job_id in list(waiting):
            files = JobFiles(os.path.join(root, job_id))
            if not looks and not os.path.exists(files.status):
                continue
            state, code = _state_of(files)
            if state not in jobdir.ENDED_STATES:
                continue
            if waiting.pop(job_id) and state != jobdir.SUCCEEDED:
                how = state if code is None else "{} with {}".format(state, code)
                _say("not started, because {} {}".format(job_id, how))
                prelude.tell(jobdir.STOPPED)
                os._exit(_OURS)
        if waiting:
            time.sleep(_POLL_S)
            if os.getppid() != supervisor:
                os._exit(_OURS)


def _provide(spec: Dict[str, Any], prelude: Prelude) -> None:
    """Have the command find what it requires, in an environment of its own."""
    asked = spec.get("requirements") or {}
    modules = _NOTEBOOK_MODULES if spec["kind"] == jobdir.NOTEBOOK else []
    if not asked and not modules:
        return
    prelude.tell(jobdir.STARTING)
    name, file = str(asked.get("name", "what executes notebooks")), str(asked.get("file") or "")
    wanted = environments.Wanted(
        name=name,
        file=file and os.path.join(spec["code"], file),
        lines=list(asked.get("lines") or []),
        workdir=spec["workdir"],
        tree=spec["tree"],
    )
    root = os.path.join(os.path.dirname(os.path.dirname(prelude.files.directory)), "environments")
    try:
        python = environments.ask(wanted, modules)
        if not asked and not python["missing"]:
            return
        wanted = wanted._replace(lines=wanted.lines + python["missing"])
        place = environments.provide(root, wanted, python, _say)
    except (environments.CannotInstall, OSError) as exc:
        _say("cannot install {}: {}".format(name, exc))
        os._exit(_OURS)
    with suppress(OSError):
        jobdir.write_document(prelude.files.environment, {"schema": 1, "directory": place})
    os.environ["VIRTUAL_ENV"] = place
    os.environ["PATH"] = os.pathsep.join(
        [os.path.join(place, "bin"), os.environ.get("PATH", os.defpath)]
    )


def _is_due(next_look: float) -> Any:
    now = time.monotonic()
    return (True, now + _LOOK_S) if now >= next_look else (False, next_look)


def _state_of(files: JobFiles) -> Any:
    """How that job stands, and its exit code; one whose directory was removed had ended."""
    if not os.path.exists(files.spec):
        return jobdir.UNKNOWN, None
    try:
        told = states.describe(files)
    except jobdir.Unreadable:
        return jobdir.UNKNOWN, None
    return told["state"], told["exit_code"]


def _say(words: str) -> None:
    os.write(2, "colabdev: {}\n".format(words).encode("ascii", "backslashreplace"))
