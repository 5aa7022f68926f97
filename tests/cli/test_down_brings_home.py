"""`down` brings edits home before it releases a runtime, or keeps it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.syncing import SyncedFolder, make_synced_folder


@pytest.fixture
def project(tmp_path: Path) -> Iterator[SyncedFolder]:
    with House(tmp_path) as house:
        house.connect()
        project = make_synced_folder(house, "digits")
        project.write("train.py", "print(1)\n")
        project.write("colabdev.toml", '[sync]\noutputs = ["runs/"]\n')
        project.sync()
        yield project


def test_edits_and_outputs_come_home_and_nothing_is_sent(project: SyncedFolder) -> None:
    (project.remote / "train.py").write_text("typed there\n")
    (project.remote / "new.py").write_text("made there\n")
    (project.remote / "runs").mkdir()
    (project.remote / "runs" / "model").write_text("trained there")
    project.write("unsent.py", "only here")
    done = project.type("down", "local")
    assert done.returncode == 0, done.stderr
    assert "receiving 3 files" in done.stderr
    assert "sending" not in done.stderr
    contents = {
        path.relative_to(project.local).as_posix(): path.read_text()
        for path in project.local.rglob("*.py")
    }
    assert contents == {
        "train.py": "typed there\n",
        "new.py": "made there\n",
        "unsent.py": "only here",
    }
    assert (project.local / "runs" / "model").read_text() == "trained there"
    assert project.house.status() == []


def test_what_both_sides_changed_keeps_the_runtime(project: SyncedFolder) -> None:
    project.write("train.py", "mine")
    (project.remote / "train.py").write_text("theirs")
    done = project.type("down", "local")
    assert done.returncode == 16, done.stderr
    assert "changed on both sides (train.py)" in done.stderr
    assert "down local --force gives up the runtime's" in done.stderr
    assert (project.local / "train.py").read_text() == "mine"
    assert project.type("run", "train.py").returncode == 3  # Not taken for being in step.
    assert (project.remote / "train.py").read_text() == "theirs"
    project.type("sync", "--prefer", "remote")
    assert project.type("down", "local").returncode == 0
    assert (project.local / "train.py").read_text() == "theirs"


def test_an_emptied_folder_keeps_the_runtime_until_forced(project: SyncedFolder) -> None:
    for number in range(20):
        (project.remote / f"m{number}").write_text("made there")
    project.sync()
    for file in project.remote.glob("m*"):
        file.unlink()
    done = project.type("down", "local")
    assert done.returncode == 16, done.stderr
    assert (project.local / "m1").exists()
    done = project.type("down", "local", "--force")
    assert done.returncode == 0, done.stderr
    assert "giving up" in done.stderr
    assert (project.local / "m1").exists()


def test_a_folder_that_is_gone_is_said(project: SyncedFolder) -> None:
    (project.remote / "train.py").write_text("typed there\n")
    shutil.rmtree(project.local)
    done = project.house.colabdev("down", "local")
    assert done.returncode == 0, done.stderr
    assert f"{project.local} is not here" in done.stderr
    assert "to Drive" in done.stderr
