"""A stand-in for the Windows around a WSL: a profile, and `cmd.exe`, `wslpath` and `wsl.exe`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DISTRIBUTION = "Debian-12"
WINDOWS_PROFILE = "C:\\Users\\Jörg Me"


@dataclass(frozen=True, slots=True)
class FakeWindows:
    """`profile` is where it is here; `bin` has the programs."""

    profile: Path
    bin: Path

    @property
    def ssh(self) -> Path:
        return self.profile / ".ssh"

    def environment(self, base: Mapping[str, str], *, told: bool = True) -> dict[str, str]:
        """With its programs on the PATH and, as no kernel here is Windows', told of the profile."""
        found = {**base, "PATH": f"{self.bin}:{base['PATH']}"}
        found["WSL_DISTRO_NAME"] = DISTRIBUTION
        return {**found, "COLABDEV_WINDOWS_HOME": str(self.profile)} if told else found


def make_windows(directory: Path) -> FakeWindows:
    fake = FakeWindows(directory / "mnt" / "Jörg Me", directory / "windows-bin")
    for folder in (fake.profile, fake.bin):
        folder.mkdir(parents=True)
    said = directory / "said"
    said.write_bytes(f"{WINDOWS_PROFILE}\r\n".encode("utf-16-le"))
    here, there = str(fake.profile), WINDOWS_PROFILE.replace("\\", "/")
    scripts = {
        "cmd.exe": f'[ "$*" = "/u /c echo %USERPROFILE%" ] && cat {shlex.quote(str(said))}',
        "wslpath": f"""case "$1 $2" in
"-u "{shlex.quote(WINDOWS_PROFILE)}) echo {shlex.quote(here)};;
"-m "{shlex.quote(here)}) echo {shlex.quote(there)};;
*) exit 1;;
esac""",
        # Nothing of the environment goes from one side to the other.
        "wsl.exe": f"""[ "$1 $2 $3 $5" = "-d {DISTRIBUTION} -u --exec" ] || exit 1
shift 5
exec env -i HOME="$HOME" PATH={shlex.quote(os.defpath)} "$@\"""",
    }
    for name, script in scripts.items():
        path = fake.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return fake
