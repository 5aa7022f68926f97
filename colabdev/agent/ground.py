"""On what an attempt of a job stands: its GPU, Python and torch, and what its environment has."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional

from . import environments, jobdir
from .carrier_files import CarrierFiles
from .child import Child, Say
from .environments import CannotInstall
from .probe import gpu_name

Ground = Dict[str, Any]
"""`gpu`, `python`, `torch` (null when not known), and `lock`, what the job's own environment has as
`name==version` (null when none was made)."""

_EXACT = ("gpu", "torch")
"""On another one of these the same steps come to other numbers."""

_PATIENCE_S = 60.0
"""A machine that was just started answers slowly; what does not answer by then is not known."""
_BEAT_S = 0.2


def take(files: CarrierFiles, say: Say) -> Ground:
    """That of the job, as it was when somebody asked first; says something all the while."""
    path = os.path.join(files.directory, "ground.json")
    known = _read(path)
    if known is None:
        known = _patiently(_read(files.job.environment), say)
        jobdir.write_document(path, known)
    return known


def differences(before: Ground, now: Ground) -> List[str]:
    """Why what follows will not be bit for bit what it would have been, as far as that is known."""
    return [
        "{} was {}, is {}".format(name, before[name], now[name])
        for name in _EXACT
        if before.get(name) and now.get(name) and before[name] != now[name]
    ]


def _patiently(environment: Optional[Dict[str, Any]], say: Say) -> Ground:
    child = Child(lambda tell: tell(_ask(environment)))
    begun = time.monotonic()
    while child.fd >= 0 and time.monotonic() - begun < _PATIENCE_S:
        child.wait(_BEAT_S)
        child.messages()
        say({"looking": True})
    if child.fd >= 0:
        child.kill()
    else:
        child.join()
    return {name: child.last.get(name) for name in ("gpu", "python", "torch", "lock")}


def _ask(environment: Optional[Dict[str, Any]]) -> Ground:
    python = "python3"
    if environment is not None:
        python = os.path.join(str(environment["directory"]), "bin", "python3")
    told: Dict[str, Any] = {}
    with suppress(CannotInstall):  # The job may have no Python.
        asked = {"lines": [], "modules": [], "lock": environment is not None}
        told = environments.question(asked, python, subprocess.DEVNULL)
    return {
        "gpu": gpu_name(),
        "python": str(told["version"]).split()[0] if "version" in told else None,
        "torch": (told.get("kept") or {}).get("torch"),
        "lock": told.get("lock"),
    }


def _read(path: str) -> Optional[Dict[str, Any]]:
    try:
        return jobdir.read_document(path)
    except (OSError, jobdir.Unreadable):
        return None
