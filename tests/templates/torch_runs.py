"""How the templates are run: by a Python that has PyTorch, on a computer without a GPU."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run(python: Path, folder: Path, *arguments: str, **environment: str) -> str:
    """What the Python prints there; it must end well.

    With one thread: several wait for each other in a busy loop when other tests want the same cores.
    """
    done = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
