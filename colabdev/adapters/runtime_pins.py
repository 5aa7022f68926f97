"""What is installed on a runtime, and in which version: our own extra `runtime` says it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata

_EXTRA = re.compile(r"""\s*(?:;|\band\b)\s*extra\s*==\s*['"]runtime['"]\s*$""")


def runtime_pins(package: str) -> Sequence[str]:
    """The lines of requirements that bring that package to any Python."""
    lines = metadata.requires("colabdev") or ()
    ours = (line for line in lines if re.match(rf"{re.escape(package)}\b", line))
    return tuple(_EXTRA.sub("", line) for line in ours if _EXTRA.search(line))
