"""`colabdev down` as a process of its own, for whoever is ended by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from colabdev.adapters.processes import detached_flags
from colabdev.models import RuntimeRecord

TIMEOUT_S = 1800.0


def give_back_by_command(
    record: RuntimeRecord, environment: Mapping[str, str], log_dir: Path
) -> str:
    """Type `down` for this very runtime; why it failed, "" when it did not. What it says is kept in
    `down-<name>.log`, because nobody may be left to read it."""
    path = log_dir / f"down-{record.name}.log"
    words = ["down", record.name, "--json", "--request", record.request_id]
    try:
        log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "r+b") as said:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "colabdev", *words],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.DEVNULL,
                # As a keeper: it must not keep anybody's directory from being unmounted.
                cwd=os.path.abspath(os.sep),
                env=environment,
                start_new_session=True,
                creationflags=detached_flags(),
                timeout=TIMEOUT_S,
                check=False,
            )
            said.seek(0)
            text = said.read()
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    if done.returncode == 0:
        return ""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"colabdev down ended with {done.returncode}"
