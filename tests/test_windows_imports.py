"""Windows never runs here; this is as near as it comes: no POSIX-only module, and its name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What colabdev stands on is imported first, as the system that this really is.
AS_ON_WINDOWS = """
import argparse, asyncio, ctypes, importlib, json, logging, pkgutil, runpy, select, selectors
import shutil, signal, socket, subprocess, sys, tempfile, tomllib, urllib.request, zipapp, zipfile
import asyncssh, cryptography.hazmat.primitives.serialization, filelock, paramiko, pathspec
import platformdirs, pydantic, rich.console, sysconfig, typer, typer.main
sysconfig.get_config_vars()
for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
sys.platform = "win32"
"""

IMPORT_ALL = """
import colabdev
never_there = ("colabdev.agent.", "colabdev.providers.sandbox", "colabdev.cli.raw_keyboard")
never_there += ("colabdev.__main__",)
for module in pkgutil.walk_packages(colabdev.__path__, "colabdev."):
    if not module.name.startswith(never_there):
        importlib.import_module(module.name)
        print(module.name)
"""

RUN = """
from colabdev.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


def as_on_windows(home: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "COLABDEV_STATE_DIR": str(home / "state"),
        "COLABDEV_CONFIG_DIR": str(home / "config"),
        "COLABDEV_SSH_CONFIG": str(home / ".ssh" / "config"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    return subprocess.run(
        [sys.executable, "-c", AS_ON_WINDOWS + code, *arguments],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_everything_that_windows_runs_can_be_imported(tmp_path: Path) -> None:
    done = as_on_windows(tmp_path, IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert {"colabdev.cli.app", "colabdev.keeper.__main__", "colabdev.adapters.ssh"} <= {
        *done.stdout.split()
    }


def test_local_runtime_is_refused_in_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    done = as_on_windows(tmp_path, RUN, "connect", "--provider", "local")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == (
        "colabdev: cannot start a local runtime: a sandbox needs Linux or macOS"
    )
    assert "WSL" in done.stderr
    assert not (tmp_path / "state" / "runtimes" / "local.json").exists()


@pytest.mark.parametrize("command", ["status", "ps", "--help", "doctor", "local kill nobody"])
def test_commands_run_without_a_runtime(tmp_path: Path, command: str) -> None:
    done = as_on_windows(tmp_path, RUN, *command.split())
    assert done.returncode == (1 if "kill" in command else 0), done.stderr
    assert "Traceback" not in done.stderr
