"""Windows' rules: names and paths, the profile that WSL stands beside, and lines to type.

Pure, so that they can be tried anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath

_DRIVE_PATH = re.compile(r"([A-Za-z]):[\\/](.*)", re.DOTALL)
_MOUNTED_DRIVE = re.compile(r"/([A-Za-z])(/.*)?", re.DOTALL)
_PROFILE_LINE = re.compile(r"[A-Za-z]:\\[^\r\n\0]+")
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?:[ .:].*)?", re.I
)
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_+=:./\\-]+")
_ONLY_POWERSHELL = re.compile(r'[$`%!"]')


def is_wsl(osrelease: str) -> bool:
    """Whether a Linux kernel of that release is Windows' own: `5.15.90.1-microsoft-standard-WSL2`."""
    return "microsoft" in osrelease.lower()


def is_reserved_name(name: str) -> bool:
    """Whether Windows takes a file of that name for a device, whatever its folder and suffix are."""
    return _RESERVED.fullmatch(name.rstrip(" .")) is not None


def parse_profile(output: bytes) -> PureWindowsPath | None:
    """The profile in what `cmd.exe /u /c echo %USERPROFILE%` printed, which is UTF-16; None when there
    is none, as with an unset variable, or one that is no folder of a drive."""
    found = _PROFILE_LINE.search(output.decode("utf-16-le", "replace"))
    return PureWindowsPath(found[0].rstrip(" ")) if found else None


def mounted_path(path: PureWindowsPath, root: str = "/mnt") -> PurePosixPath | None:
    """Where WSL has a path of a drive; None for what is on none, such as `\\\\server\\share`."""
    found = _DRIVE_PATH.fullmatch(str(path))
    if found is None:
        return None
    return PurePosixPath(root) / found[1].lower() / found[2].replace("\\", "/")


def windows_path(path: PurePosixPath, root: str = "/mnt") -> PureWindowsPath | None:
    """What Windows calls a path that WSL has below `root`; None for one of Linux's own, which
    Windows' programs do not reach by a drive."""
    if not path.is_relative_to(root):
        return None
    found = _MOUNTED_DRIVE.fullmatch("/" + str(path.relative_to(root)))
    return PureWindowsPath(f"{found[1].upper()}:{found[2] or '/'}") if found else None


def quote_for_windows(argv: Sequence[str]) -> str:
    """`argv` as a line to type, in a form that both cmd and PowerShell take; a word with something
    that they read differently (`$`, `%`, quotes, …) is quoted for PowerShell."""
    return " ".join(_quote(word) for word in argv)


def _quote(word: str) -> str:
    if _PLAIN_WORD.fullmatch(word):
        return word
    # Backslashes in front of a quote would escape it for the program that splits the line again.
    backslashes = len(word) - len(word.rstrip("\\"))
    closed = word + "\\" * backslashes
    if _ONLY_POWERSHELL.search(word):
        return "'" + closed.replace("'", "''").replace('"', '\\"') + "'"
    return f'"{closed}"'
