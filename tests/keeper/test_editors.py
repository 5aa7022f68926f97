"""The keeper syncs by itself while somebody is on the runtime by the host entry."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.syncing import SyncedFolder, make_synced_folder
from tests.support.waiting import wait_until

WAIT_S = 40.0


@pytest.fixture
def project(tmp_path: Path) -> Iterator[SyncedFolder]:
    with House(tmp_path) as house:
        house.connect()
        project = make_synced_folder(house, "digits")
        project.write("train.py", "print(1)\n")
        yield project


@contextmanager
def session(project: SyncedFolder) -> Iterator[None]:
    """Somebody has a shell on the runtime, as an editor has."""
    command = project.house.ssh_files.command("local", ["cat"])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as shell:
        try:
            yield
        finally:
            shell.kill()


def watched(project: SyncedFolder) -> bool:
    return f"watches {project.local} while" in project.house.keeper_log()


def test_edits_go_both_ways_while_somebody_is_there(project: SyncedFolder) -> None:
    project.sync()
    other = make_synced_folder(project.house, "never-synced")
    project.write("train.py", "before anybody came")
    with session(project):
        copy = project.remote / "train.py"
        wait_until(
            lambda: copy.read_text() == "before anybody came",
            timeout_s=WAIT_S,
            message=project.house.keeper_log(),
        )
        (project.remote / "there.py").write_text("typed in the editor")
        wait_until(
            (project.local / "there.py").exists,
            timeout_s=WAIT_S,
            message=project.house.keeper_log(),
        )
        project.write("here.py", "typed here")
        wait_until(
            (project.remote / "here.py").exists,
            timeout_s=WAIT_S,
            message=project.house.keeper_log(),
        )
    assert not other.remote.exists()


def test_a_project_that_forbids_it_is_left_alone(project: SyncedFolder) -> None:
    project.write("colabdev.toml", "[sync]\nwatch = false\n")
    project.sync()
    second = make_synced_folder(project.house, "second")
    second.write("a.py", "1")
    second.sync()
    with session(project):
        wait_until(lambda: watched(second), timeout_s=WAIT_S, message=project.house.keeper_log())
    assert not watched(project)
