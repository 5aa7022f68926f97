"""What a machine's logins lack of its environment, where somebody has written that down."""

from __future__ import annotations

import json
import os

ENVIRONMENT_FILE = "~/.colabdev/environment.json"
"""Written by `colab_vm` in Colab's kernel, whose environment has the GPU's libraries on its paths."""


def take_environment() -> None:
    """Make it ours, and so that of all that we start. Without the file, or with one that makes no sense,
    the login's stays."""
    try:
        with open(os.path.expanduser(ENVIRONMENT_FILE), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return
    if isinstance(found, dict):
        os.environ.update({str(name): str(value) for name, value in found.items()})
