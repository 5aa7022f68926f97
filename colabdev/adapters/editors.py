"""The editors' commands on this computer. None of the editors was ever run by the tests."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from colabdev.adapters.files import write_atomic
from colabdev.adapters.processes import ask
from colabdev.adapters.windows import (
    find_command_processor,
    find_windows_home,
    is_beside_windows,
)
from colabdev.errors import ColabdevError
from colabdev.models import EditorKind

_START_TIMEOUT_S = 10.0
_ROOT = os.path.abspath(os.sep)
"""An editor must not hold the user's directory, and cmd.exe complains about one that is on no drive."""


class EditorPrograms:
    """`ports.EditorPrograms`. In a WSL they are Windows', because only those see Windows' screen and
    read Windows' side of the host entries; a Linux one is taken where Windows has none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._found: dict[str, Sequence[str] | None] = {}
        self._beside_windows = is_beside_windows(environment)

    def has(self, kind: EditorKind) -> bool:
        return self._argv(kind) is not None

    def extensions(self, kind: EditorKind) -> frozenset[str] | None:
        argv = self._argv(kind)
        done = ask([*argv, "--list-extensions"], cwd=_ROOT) if argv else None
        if done is None or done.returncode != 0:
            return None
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        return frozenset(line.strip().lower() for line in lines)

    def settings_file(self, kind: EditorKind) -> Path | None:
        folder = self._settings_folder()
        return None if folder is None else folder / kind.settings_folder / "User" / "settings.json"

    def settings(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeError):
            return ""

    def change_settings(self, path: Path, change: Callable[[str], str | None]) -> bool:
        target = Path(os.path.realpath(path))
        try:
            before = target.read_bytes() if target.exists() else b""
            after = change(before.decode("utf-8"))
            if after is None or (before and not os.access(target, os.W_OK)):
                return False
            target.parent.mkdir(parents=True, exist_ok=True)
            backup = target.with_name(f"{target.name}.before-colabdev")
            if before and not backup.exists():
                write_atomic(backup, before)
            mode = stat.S_IMODE(target.stat().st_mode) if before else 0o600
            write_atomic(target, after.encode("utf-8"), mode=mode)
        except (OSError, UnicodeError):
            return False
        return True

    def _settings_folder(self) -> Path | None:
        """Where programs of this system keep their users' settings."""
        try:
            if self._beside_windows:
                return find_windows_home(self._environment).here / "AppData" / "Roaming"
            if sys.platform == "win32":
                return Path(self._environment["APPDATA"])
            if sys.platform == "darwin":
                return Path.home() / "Library" / "Application Support"
            return Path(self._environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        except (ColabdevError, KeyError, RuntimeError):
            return None

    def open(self, kind: EditorKind, arguments: Sequence[str]) -> None:
        argv = [*(self._argv(kind) or [kind.command]), *arguments]
        with tempfile.TemporaryFile() as said:  # A pipe would be held open by what it starts.
            try:
                started = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    cwd=_ROOT,
                    start_new_session=True,
                )
                code = started.wait(_START_TIMEOUT_S)
            except OSError as exc:
                raise _failed(kind, exc.strerror or str(exc)) from exc
            except subprocess.TimeoutExpired:
                return  # It is the editor itself.
            said.seek(0)
            complaint = said.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        if code != 0:
            raise _failed(kind, complaint or f"exit status {code}")

    def _argv(self, kind: EditorKind) -> Sequence[str] | None:
        if kind.command not in self._found:
            self._found[kind.command] = self._find(kind)
        return self._found[kind.command]

    def _find(self, kind: EditorKind) -> Sequence[str] | None:
        if self._beside_windows:
            processor = find_command_processor()
            found = ask([processor, "/c", "where", kind.command], cwd=_ROOT)
            if found is not None and found.returncode == 0:
                return [processor, "/c", kind.command]
        # With its suffix: on Windows they are .cmd files.
        program = shutil.which(kind.command) or _mac_program(kind)
        return None if program is None else [program]


def _mac_program(kind: EditorKind) -> str | None:
    """What the editor would put on the PATH if it was told to."""
    if sys.platform != "darwin":
        return None
    for folder in ("/Applications", os.path.expanduser("~/Applications")):
        program = Path(folder) / f"{kind.mac_app}.app/Contents/Resources/app/bin" / kind.command
        if program.exists():
            return str(program)
    return None


def _failed(kind: EditorKind, why: str) -> ColabdevError:
    return ColabdevError(
        f"cannot start {kind.title}: {why}",
        hint=f"{kind.command} --version shows whether it starts",
    )
