"""The files by which a tunnel's supervisor and those who ask for the tunnel know of each other.

~/.colabdev/tunnel/state.json   how it stands: see `tunnel.Supervisor`
~/.colabdev/tunnel/lock         held by the supervisor for its whole life
~/.colabdev/tunnel/log          what it and its child complained of

A machine has one tunnel. No secret is in any of these.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Dict, Optional

from . import jobdir

SCHEMA = 1

STARTING = "starting"
UP = "up"
DOWN = "down"
"""It is tried again."""
REFUSED = "refused"
"""It is not: waiting does not help. The supervisor has ended."""


class Place:
    """The names of a tunnel's files."""

    def __init__(self, home: str) -> None:
        self.directory = os.path.join(home, ".colabdev", "tunnel")
        self.state = os.path.join(self.directory, "state.json")
        self.lock = os.path.join(self.directory, "lock")
        self.log = os.path.join(self.directory, "log")
        self.environments = os.path.join(home, ".colabdev", "environments")

    def read(self) -> Optional[Dict[str, Any]]:
        """What the supervisor said last; None when it never did, or not so that one can read it."""
        try:
            return jobdir.read_document(self.state)
        except (OSError, jobdir.Unreadable):
            return None


def name_of(asked: Dict[str, Any]) -> str:
    """Tells what was asked for from anything else."""
    return hashlib.sha256(json.dumps([SCHEMA, asked], sort_keys=True).encode("ascii")).hexdigest()
