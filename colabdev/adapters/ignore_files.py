"""Rule sets in the syntax of `.gitignore`; the one module that knows pathspec."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from pathspec import GitIgnoreSpec, RegexPattern

from colabdev.core.ignore import Verdict

_END = "(?:(?P<ps_d>/)|$)"
_END_OF_FOLDER = "(?P<ps_d>/)"
"""pathspec's marks for where a path may end; what comes after lies in a folder that matched."""


def compile_rules(lines: Iterable[str]) -> Verdict:
    """What the lines of one file say. A line that is no pattern says nothing, as in git."""
    patterns = [pattern for line in lines for pattern in _patterns(_bytewise(line))][::-1]

    def verdict(path: str) -> bool | None:
        name = _bytewise(path)
        for search, include in patterns:
            if search(name):
                return include
        return None

    return verdict


def rule_lines(content: bytes) -> list[str]:
    """The lines of a rule file, split as git splits them."""
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return [line.removesuffix("\r") for line in text.split("\n")]


def _bytewise(text: str) -> str:
    """A letter for each byte: `?` is one byte in git, and names need not be UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def _patterns(line: str) -> list[tuple[Callable[[str], object], bool]]:
    try:
        compiled = GitIgnoreSpec.from_lines([line]).patterns
    except ValueError:
        return []
    return [
        (_anchored(pattern.regex.pattern, line).search, pattern.include)
        for pattern in compiled
        if isinstance(pattern, RegexPattern)
        and pattern.regex is not None
        and pattern.include is not None
    ]


def _anchored(source: str, line: str) -> re.Pattern[str]:
    """The pattern for a path itself only. pathspec's also matches what lies in a matching folder; we
    ask about each folder before what lies in it, as git does."""
    if source.endswith(_END):
        source = source.removesuffix(_END) + r"/?\Z"
    elif source.endswith(_END_OF_FOLDER):
        inside = "/.+" if line.rstrip().endswith("/**/") and source != _END_OF_FOLDER else ""
        source = source.removesuffix(_END_OF_FOLDER) + inside + r"/\Z"
    elif source.endswith("/"):  # `a/**` is about what lies in a, not about a.
        source += "."
    return re.compile(source, re.DOTALL)
