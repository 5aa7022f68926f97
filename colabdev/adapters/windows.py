"""Windows' side of a WSL: where its user's profile is. Nothing of it was ever run on Windows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from colabdev.adapters.processes import ask
from colabdev.core.windows import is_wsl, mounted_path, parse_profile, windows_path
from colabdev.errors import ColabdevError

WINDOWS_HOME_VARIABLE = "COLABDEV_WINDOWS_HOME"

_OSRELEASE = Path("/proc/sys/kernel/osrelease")
_CMD = "/mnt/c/Windows/System32/cmd.exe"  # Where it is with interop's PATH switched off.


@dataclass(frozen=True, slots=True)
class WindowsHome:
    """The profile of Windows' user: the same folder under two names."""

    here: Path
    """As this Linux sees it: /mnt/c/Users/NAME."""
    there: PureWindowsPath
    """As Windows names it."""


def is_beside_windows(environment: Mapping[str, str], osrelease: Path = _OSRELEASE) -> bool:
    """Whether there is a Windows whose editor is to reach our runtimes: this is a WSL, or we were
    told where its profile is."""
    if environment.get(WINDOWS_HOME_VARIABLE):
        return True
    try:
        return is_wsl(osrelease.read_text())
    except OSError:
        return False


def find_windows_home(environment: Mapping[str, str]) -> WindowsHome:
    """The profile, by asking Windows; `ColabdevError` when it does not say."""
    told = environment.get(WINDOWS_HOME_VARIABLE)
    here = Path(told) if told else _ask_for_profile()
    there = _windows_name(here)
    if there is None or not here.is_dir():
        raise ColabdevError(
            f"cannot use {here} as Windows' profile: it is no folder of a Windows drive",
            hint=f"set {WINDOWS_HOME_VARIABLE} to it, such as /mnt/c/Users/NAME",
        )
    return WindowsHome(here, there)


def find_command_processor() -> str:
    """Windows' cmd.exe, as this Linux starts it."""
    return shutil.which("cmd.exe") or _CMD


def _ask_for_profile() -> Path:
    profile = parse_profile(_output([find_command_processor(), "/u", "/c", "echo %USERPROFILE%"]))
    if profile is None:
        raise ColabdevError(
            "cannot find Windows' profile: cmd.exe does not say where it is",
            hint=f"set {WINDOWS_HOME_VARIABLE} to it, such as /mnt/c/Users/NAME",
        )
    # Only wslpath knows where the drives are when wsl.conf moves them.
    named = _output(["wslpath", "-u", str(profile)]).decode("utf-8", "surrogateescape").strip()
    return Path(named or mounted_path(profile) or profile.as_posix())


def _windows_name(here: Path) -> PureWindowsPath | None:
    named = _output(["wslpath", "-m", str(here)]).decode("utf-8", "surrogateescape").strip()
    if named:
        return PureWindowsPath(named)
    return windows_path(PurePosixPath(here))


def _output(argv: Sequence[str]) -> bytes:
    """What the program printed; nothing when it could not do what it was asked for."""
    done = ask(argv, cwd="/")  # cmd.exe complains about a working directory that is on no drive.
    return done.stdout if done and done.returncode == 0 else b""
