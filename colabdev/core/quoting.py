"""Argument lists as one line: for a POSIX shell, exact for every byte but NUL, and to be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from colabdev.core.windows import quote_for_windows

_LONE_SURROGATES = re.compile("([\udc80-\udcff]+)")
_RESERVED_WORD = re.compile(
    "if|then|else|elif|fi|case|esac|in|while|until|for|select|do|done|function|time|coproc"
)


def quote_command(argv: Sequence[str]) -> str:
    """`argv` as a command line that any POSIX shell splits back into exactly these arguments.

    Bytes that are not UTF-8 (lone surrogates here) become `"$(printf '\\377')"`, so the line is valid
    UTF-8: SSH servers are entitled to refuse anything else.
    """
    line = " ".join(_quote(argument) for argument in argv)
    # In front a shell takes `a=b` for an assignment and `if` for its grammar, but not when quoted.
    if argv and ("=" in argv[0] or _RESERVED_WORD.fullmatch(argv[0])):
        return "''" + line
    return line


def line_to_type(argv: Sequence[str], *, windows: bool) -> str:
    """`argv` for the user to type into a shell of this computer."""
    return quote_for_windows(argv) if windows else shlex.join(argv)


def _quote(argument: str) -> str:
    if not argument:
        return "''"
    pieces = [piece for piece in _LONE_SURROGATES.split(argument) if piece]
    return "".join(
        _printf(piece) if _LONE_SURROGATES.fullmatch(piece) else shlex.quote(piece)
        for piece in pieces
    )


def _printf(undecodable: str) -> str:
    raw = undecodable.encode("utf-8", "surrogateescape")
    return "\"$(printf '" + "".join(f"\\{byte:03o}" for byte in raw) + "')\""
