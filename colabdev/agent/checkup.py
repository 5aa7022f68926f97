"""What `doctor` asks a runtime: cheap, and it changes nothing."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any, Dict

from . import jobdir, mounts


def look(places: Dict[str, str]) -> Dict[str, Any]:
    """The clock (seconds since 1970), and how the named directories stand; `home` and `jobs` are
    added to them."""
    home = os.path.expanduser("~")
    named = dict(places, home=home, jobs=jobdir.jobs_directory(home))
    return {"time": time.time(), "places": {name: _place(path) for name, path in named.items()}}


def _place(path: str) -> Dict[str, Any]:
    # What is below a mount that hangs must not even be looked at.
    is_away = path == mounts.INSIDE and mounts.look() != mounts.MOUNTED
    there = not is_away and os.path.isdir(path)
    return {
        "path": path,
        "exists": there,
        "writable": there and os.access(path, os.W_OK | os.X_OK),
        "free_bytes": shutil.disk_usage(path).free if there else None,
    }
