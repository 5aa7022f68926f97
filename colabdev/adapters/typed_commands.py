"""Command lines of our own that a keeper types, each as a process that outlives it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from colabdev.adapters.processes import detached_flags

TIMEOUT_S = 1800.0


def type_command(
    words: Sequence[str], environment: Mapping[str, str], said: Path, *, with_progress: bool = False
) -> int:
    """Run it to its end; its exit status. What it says is kept in the file `said`, because nobody may be
    left to read it. OSError, or subprocess.TimeoutExpired."""
    said.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "colabdev", *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT if with_progress else subprocess.DEVNULL,
            # As a keeper: it must not keep anybody's directory from being unmounted.
            cwd=os.path.abspath(os.sep),
            env=environment,
            start_new_session=True,
            creationflags=detached_flags(),
            timeout=TIMEOUT_S,
            check=False,
        )
    return done.returncode
