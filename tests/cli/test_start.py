"""What a command loads before it does anything: seconds that everybody waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.house import House

HEAVY = ("pydantic", "paramiko", "asyncssh", "torch", "google")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["status"],
        ["ps", "--json"],
        ["sync", "-r", "nobody"],
        ["run", "--env", "A=b", "--name", "x", "ls", "-l"],
        ["connect", "nothing", "--provider", "notebook"],
    ],
)
def test_command_loads_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    """Pydantic, which Typer would load for every option, takes as long as Typer itself."""
    with House(tmp_path) as house:
        done = house.colabdev(*words, env={"PYTHONPROFILEIMPORTTIME": "1"})
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded.intersection(HEAVY)
