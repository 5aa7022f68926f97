"""What a runtime is and has: measured when asked, nothing invented when it cannot be known."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from typing import Any, Dict, Optional


def facts() -> Dict[str, Any]:
    """Host name, home directory, Python, CPUs, free disk (bytes) and the GPU's name or None."""
    home = os.path.expanduser("~")
    return {
        "hostname": platform.node(),
        "home": home,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "disk_free_bytes": shutil.disk_usage(home).free,
        "gpu": gpu_name(),
    }


def gpu_name() -> Optional[str]:
    """The first GPU as `nvidia-smi` names it; None without one."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None
