"""The Python interpreters of this computer, for what must run on each of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MINORS = range(8, 14)
"""The 3.x that the agent must run on."""


def find_pythons() -> dict[str, Path]:
    """The executable of each version that was found and really runs, oldest first: `{"3.8": …}`."""
    versions = [f"3.{minor}" for minor in MINORS]
    found = {version: find_python(version) for version in versions}
    return {version: executable for version, executable in found.items() if executable is not None}


def oldest_and_ours() -> dict[str, Path]:
    """The oldest that the agent must run on, where it was found, and as `ours` the tests' own."""
    version = f"3.{MINORS[0]}"
    oldest = find_python(version)
    found = {} if oldest is None else {version: oldest}
    return {**found, "ours": Path(sys.executable)}


def find_python(version: str) -> Path | None:
    """The executable of that version, which really runs."""
    executables = (_executable(candidate, version) for candidate in _candidates(version))
    return next((executable for executable in executables if executable is not None), None)


def _candidates(version: str) -> Iterator[Path]:
    """pyenv's own first: its shims on the PATH depend on the directory they are called in."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    pattern = re.compile(re.escape(version) + r"\.\d+")
    for folder in sorted((pyenv / "versions").glob("*")):
        if pattern.fullmatch(folder.name):
            yield folder / "bin" / "python3"
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        yield Path(on_path)


def _executable(candidate: Path, version: str) -> Path | None:
    """The real executable behind `candidate`, when it runs and is of that version."""
    question = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"
    try:
        done = subprocess.run(
            [candidate, "-I", "-c", question],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    told, _, executable = done.stdout.strip().partition("\n")
    return Path(executable) if done.returncode == 0 and told == version else None
