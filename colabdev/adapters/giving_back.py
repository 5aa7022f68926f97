"""`colabdev down` as a process of its own, for whoever is ended by it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from colabdev.adapters.typed_commands import type_command
from colabdev.models import RuntimeRecord


def give_back_by_command(
    record: RuntimeRecord, environment: Mapping[str, str], log_dir: Path
) -> str:
    """Type `down` for this very runtime; why it failed, "" when it did not. What it says is kept in
    `down-<name>.log`."""
    said = log_dir / f"down-{record.name}.log"
    words = ["down", record.name, "--json", "--request", record.request_id]
    try:
        status = type_command(words, environment, said)
        if status == 0:
            return ""
        return str(json.loads(said.read_bytes())["error"]["message"])
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    except (ValueError, KeyError, TypeError):
        return f"colabdev down ended with {status}"
