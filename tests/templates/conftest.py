"""The Python that the templates are run with, which has PyTorch; ours has not."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
TORCH_VENV = CHECKOUT / "scripts" / "torch-venv"
TEMPLATES = CHECKOUT / "templates"
PYTORCH = TEMPLATES / "pytorch"


def copied(template: Path, target: Path) -> Path:
    """A copy of the template, without what was left there by running it."""
    left = shutil.ignore_patterns("runs", "__pycache__", ".pytest_cache")
    return shutil.copytree(template, target, ignore=left)


@pytest.fixture(scope="session")
def torch_python() -> Path:
    """A Python with what the templates need: the one that is named, ours, or one made for it."""
    if named := os.environ.get("COLABDEV_TORCH_PYTHON"):
        return Path(named)
    if all(importlib.util.find_spec(name) for name in ("torch", "sklearn", "matplotlib")):
        return Path(sys.executable)
    # Of sessions that run beside this one, one makes it and the others wait: the script locks.
    made = subprocess.run(
        [TORCH_VENV],
        env={**os.environ, "COLABDEV_PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.removesuffix("\n"))
