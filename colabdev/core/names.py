"""Names: which ones a runtime and a project may have, and those of files that are ours."""

from __future__ import annotations

import re

from colabdev.core.windows import is_reserved_name
from colabdev.errors import UsageError

_RUNTIME_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]|[a-z]")
_LONGEST_PROJECT_NAME_BYTES = 255
_RESERVED_WORK_DIRS = {"", ".", "..", "drive", "sample_data"}
BUG_REPORT = "colabdev-bug-report-"
"""How the name of an archive that `doctor --bundle` makes begins; sync sends none."""
_ANOTHER_NAME = 'set another one in colabdev.toml: [project] name = "my-project"'


def is_runtime_name(name: str) -> bool:
    """Whether a runtime may have that name: it is an SSH alias in every tool that reads one,
    and a file."""
    return _RUNTIME_NAME.fullmatch(name) is not None and not is_reserved_name(name)


def check_runtime_name(name: str) -> str:
    """`name`, when a runtime may have it; `UsageError` otherwise."""
    if not is_runtime_name(name):
        raise UsageError(
            f"cannot use {name!r} as a runtime's name: it becomes an SSH alias, so only lower-case "
            "letters, digits and dashes, at most 32, from a letter to a letter or digit, and none of "
            "Windows' devices (con, nul, …)",
            hint="colabdev connect my-gpu",
        )
    return name


def check_project_name(name: str) -> str:
    """`name`, when `/content/<name>` is a sane work dir; `UsageError` otherwise."""
    if name in _RESERVED_WORK_DIRS or "/" in name or "\0" in name:
        raise UsageError(
            f"cannot use {name!r} as a project's name: /content/{name} is not free on a runtime",
            hint=_ANOTHER_NAME,
        )
    if len(name.encode("utf-8", "surrogateescape")) > _LONGEST_PROJECT_NAME_BYTES:
        raise UsageError(
            f"cannot use {name[:20]!r}… as a project's name: it is longer than "
            f"{_LONGEST_PROJECT_NAME_BYTES} bytes",
            hint=_ANOTHER_NAME,
        )
    return name
