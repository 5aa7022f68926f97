"""Files of a work dir as one archive in a folder of Drive."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timezone
from typing import Dict, Optional, Sequence, Tuple

from . import archive, shelf, tree
from .drive import Stored
from .mirror_files import Place, read


def store(
    place: Place,
    folder: str,
    paths: Sequence[str],
    left_out: Sequence[tree.Problem] = (),
    known: Optional[Stored] = None,
) -> Tuple[str, Stored]:
    """See that the folder has an archive of what lies at `paths` now; the hash of what was read, and the
    archive. `known` is one that was proved before."""
    packed = place.packed(os.path.basename(folder))
    try:
        # Made on the machine's own disk first: Drive gets it in one piece, under its own name.
        with open(packed, "w+b") as file:
            summary = archive.write(file, place.workdir, paths, left_out, about(place))
            file.seek(0)
            there = shelf.find_whole(folder, summary.tree, known)
            return summary.tree, there or shelf.store(folder, summary.tree, file)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(packed)


def about(place: Place) -> Dict[str, str]:
    """What an archive of that work dir says of where it comes from."""
    marker = read(place.marker) or {}
    return {
        "project": os.path.basename(place.workdir),
        "stored": now(),
        "origin": "{} on {}".format(marker.get("project"), marker.get("computer")),
    }


def now() -> str:
    """The time as our files have it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
