"""The files by which a mirror and those who ask it know of each other.

.colabdev/ask.json      `{"number", "agent", "drive_dir"}`: what is wanted, by whom
.colabdev/mirror.json   how it stands: see `Mirror.say`
.colabdev/mirror.lock   held by the mirror for its whole life
.colabdev/code.zip      the archive in the making; outputs.zip one of outputs
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from . import jobdir, tree

MAX_FILE_BYTES = 200 * 1000 * 1000
"""Larger files are not meant to be code; sync does not send them unasked either."""


class Place:
    """The names of the daemon's files."""

    def __init__(self, workdir: str) -> None:
        self.workdir = workdir.rstrip("/") or "/"
        ours = self.workdir + "/" + tree.OURS
        self.ask = ours + "/ask.json"
        self.state = ours + "/mirror.json"
        self.lock = ours + "/mirror.lock"
        self.marker = ours + "/marker.json"
        self.journal = ours + "/journal"
        self.rules = ours + "/rules.json"
        self.complaints = ours + "/mirror.log"
        self._ours = ours

    def packed(self, folder: str) -> str:
        """Where an archive for that folder of Drive is made."""
        return "{}/{}.zip".format(self._ours, folder)


def read_state(place: Place) -> Optional[Dict[str, Any]]:
    """What the daemon said last; None when it never did, or not so that one can read it."""
    return read(place.state)


def read(path: str) -> Optional[Dict[str, Any]]:
    """The JSON object in that file; None when there is none that can be read."""
    try:
        return jobdir.read_document(path)
    except (OSError, jobdir.Unreadable):
        return None
