"""What a requirements file asks for, line by line, with the files that it includes; both ends read it.

The lines name an environment (`environments.key_of`), so whoever has the file knows the name.
"""

from __future__ import annotations

import os
import re
from typing import Iterable, List, Set

_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s+|\s*=\s*|(?=[^\s-]))(\S+)")
_LOCAL = re.compile(r"\.|/|-e|--editable|file:|[^#]*@\s*file:|[^#\s]*\.(?:whl|tar\.gz|zip)(?:\s|$)")


def read(path: str) -> List[str]:
    """The lines of the file, those of a file that it includes behind the line that does; OSError."""
    return _with_included(path, set())


def name_files(lines: Iterable[str]) -> bool:
    """Whether any of them asks for what lies in the project itself."""
    return any(_LOCAL.match(line.strip()) for line in lines)


def _with_included(path: str, seen: Set[str]) -> List[str]:
    seen.add(os.path.realpath(path))
    with open(path, "rb") as file:
        text = file.read().decode("utf-8", "surrogateescape")
    lines = []
    for line in text.splitlines():
        lines.append(line)
        included = _INCLUDE.match(line.strip())
        other = os.path.join(os.path.dirname(path), included.group(1)) if included else ""
        if other and "://" not in other and os.path.realpath(other) not in seen:
            lines += _with_included(other, seen)
    return lines
