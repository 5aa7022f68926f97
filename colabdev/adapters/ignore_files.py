"""Rule sets in the syntax of `.gitignore`; the one module that knows pathspec."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pathspec import GitIgnoreSpec, RegexPattern

from colabdev.agent.rules import END, NAME, PATH, Rule, bytewise

_END = "(?:(?P<ps_d>/)|$)"
_END_OF_FOLDER = "(?P<ps_d>/)"
"""pathspec's marks for where a path may end; what comes after lies in a folder that matched."""
_ANYWHERE = "^(?:.+/)?"
_ANY_BEGINNING = "[^/]*"
_LITERAL = re.compile(r"(?:[A-Za-z0-9_]|[^\x00-\x7f]|[-~,=@%:;!'\"<> ]|\\[^A-Za-z0-9])+")


def compile_rules(lines: Iterable[str]) -> list[Rule]:
    """The rules of one file. A line that is no pattern says nothing, as in git."""
    return [
        rule
        for number, line in enumerate(lines, start=1)
        for rule in _rules(bytewise(line), number)
    ]


def _rules(line: str, number: int) -> Iterator[Rule]:
    try:
        compiled = GitIgnoreSpec.from_lines([line]).patterns
    except ValueError:
        return
    for pattern in compiled:
        if isinstance(pattern, RegexPattern) and pattern.regex and pattern.include is not None:
            kind, text, folders_only = _simplest(pattern.regex.pattern, line)
            yield Rule(kind, text, folders_only, pattern.include, number)


def _simplest(source: str, line: str) -> tuple[str, str, bool]:
    """The kind and text of the rule, and whether it is for folders only. Most rules are a name or the
    end of one, which is looked up much faster than a pattern."""
    folders_only = source.endswith(_END_OF_FOLDER)
    if source.startswith(_ANYWHERE) and not line.rstrip().endswith("/**/"):
        core = source.removeprefix(_ANYWHERE).removesuffix(_END).removesuffix(_END_OF_FOLDER)
        if core != source.removeprefix(_ANYWHERE):
            beginning = core.startswith(_ANY_BEGINNING)
            core = core.removeprefix(_ANY_BEGINNING)
            if _LITERAL.fullmatch(core):
                text = re.sub(r"\\(.)", r"\1", core)
                return (END if beginning else NAME), text, folders_only
    return PATH, _anchored(source, line), folders_only


def _anchored(source: str, line: str) -> str:
    """The pattern for a path itself only. pathspec's also matches what lies in a matching folder; we
    ask about each folder before what lies in it, as git does."""
    if source.endswith(_END):
        return source.removesuffix(_END) + r"/?\Z"
    if source.endswith(_END_OF_FOLDER):
        inside = "/.+" if line.rstrip().endswith("/**/") and source != _END_OF_FOLDER else ""
        return source.removesuffix(_END_OF_FOLDER) + inside + r"/\Z"
    if source.endswith("/"):  # `a/**` is about what lies in a, not about a.
        return source + "."
    return source
