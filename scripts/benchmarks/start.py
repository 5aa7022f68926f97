"""How long a command takes to start: whole processes, beside an empty typer app."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Round, Row, alternate

ROUNDS = 25
TARGET = 1.5

EMPTY_APP = '''\
"""What any command line on typer costs."""

import typer

app = typer.Typer()


@app.command()
def one() -> None:
    """Do nothing."""


@app.command()
def two() -> None:
    """Do nothing either."""


def main() -> None:
    app()
'''

# The shape of what pip and its like write for a console script.
LAUNCHER = """\
#!{python}
import sys
from empty_typer_app import main
if __name__ == "__main__":
    sys.exit(main())
"""


def run(rounds: int) -> list[Row]:
    """`--help` beside `--help`, and `status` with nothing to show beside an empty command."""
    ours = Path(sys.executable).with_name("colabdev")
    with tempfile.TemporaryDirectory(prefix="colabdev-bench-") as directory:
        root = Path(directory)
        empty = _write_empty_app(root)
        environment = _environment(root)

        def command(*argv: str) -> Round:
            return lambda: _run(argv, environment)

        def row(title: str, our_argument: str, empty_argument: str) -> Row:
            work = {
                "ours": command(str(ours), our_argument),
                "beside": command(str(empty), empty_argument),
            }
            took = alternate(work, rounds)
            label = f"an empty typer app, {empty_argument}"
            return Row(
                title, f"colabdev {our_argument}", label, took["ours"], took["beside"], TARGET
            )

        return [row("start", "--help", "--help"), row("start", "status", "one")]


def _write_empty_app(root: Path) -> Path:
    """The empty app as a module, so that it is read from its .pyc as ours is, and its launcher."""
    (root / "empty_typer_app.py").write_text(EMPTY_APP)
    launcher = root / "empty"
    launcher.write_text(LAUNCHER.format(python=sys.executable))
    launcher.chmod(0o755)
    return launcher


def _environment(root: Path) -> Mapping[str, str]:
    """Ours, without what would keep children from writing .pyc files or change what they import,
    and with places for state that are empty."""
    drop = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONUNBUFFERED"}
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    return environment | {
        "COLABDEV_STATE_DIR": str(root / "state"),
        "COLABDEV_CONFIG_DIR": str(root / "config"),
        "COLABDEV_SSH_CONFIG": str(root / "ssh_config"),
    }


def _run(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        # A command that fails early would look fast.
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr!r}")
