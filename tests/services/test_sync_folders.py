"""Empty folders in a sync: no file brings them along."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from colabdev.core.reconcile import Mode
from colabdev.services.exchange import SyncOptions
from tests.support.piped import PipedProject


@pytest.fixture
def project(tmp_path: Path) -> PipedProject:
    project = PipedProject(tmp_path)
    (project.local / "a.py").write_text("1")
    (project.local / ".gitignore").write_text("*.pt\ncache/\n")
    project.sync()
    return project


def told(project: PipedProject, options: SyncOptions | None = None) -> list[tuple[str, str]]:
    """What one sync says that it did; the next one has nothing to do, in one request."""
    report = project.sync(options)
    assert report.is_complete
    if options is None:
        assert project.sync().actions == ()
        assert project.pipes[-1].trips == 1
    return [(action.op, action.path) for action in report.actions]


def test_new_folder_appears_on_the_other_side_and_goes_with_it(project: PipedProject) -> None:
    (project.local / "runs/checkpoints").mkdir(parents=True)
    (project.remote / "there").mkdir()
    assert told(project) == [("mkdir", "there"), ("mkdir", "runs/checkpoints")]
    assert (project.remote / "runs/checkpoints").is_dir()
    assert (project.local / "there").is_dir()
    shutil.rmtree(project.local / "runs")
    (project.remote / "there").rmdir()
    assert told(project) == [("rmdir", "there"), ("rmdir", "runs/checkpoints")]
    assert not (project.remote / "runs").exists()
    assert not (project.local / "there").exists()


def test_ignored_folders_and_what_holds_ignored_files_stay_where_they_are(
    project: PipedProject,
) -> None:
    for root in (project.local, project.remote):
        (root / "cache/deep").mkdir(parents=True)
        (root / "pkg").mkdir()
        (root / "pkg/of-this-side.pt").write_text("ignored")
    (project.local / "pkg").rename(project.local / "pkg2")
    assert told(project) == []
    assert not (project.remote / "pkg2").exists()


def test_folder_that_a_job_fills_with_ignored_files_is_still_there(project: PipedProject) -> None:
    (project.local / "checkpoints").mkdir()
    told(project)
    (project.remote / "checkpoints/1.pt").write_text("precious")
    assert told(project) == []
    (project.local / "checkpoints").rmdir()
    assert told(project) == []  # It holds something there, and nothing says so here.
    assert (project.remote / "checkpoints/1.pt").read_text() == "precious"
    assert not (project.local / "checkpoints").exists()


def test_folder_that_is_filled_here_with_ignored_files_stays_there(project: PipedProject) -> None:
    (project.local / "checkpoints").mkdir()
    told(project)
    (project.local / "checkpoints/1.pt").write_text("ignored")
    assert told(project) == []
    (project.local / "a.py").write_text("edited")
    assert told(project) == [("send", "a.py")]
    assert (project.remote / "checkpoints").is_dir()


@pytest.mark.parametrize("side", ["local", "remote"])
@pytest.mark.parametrize("known", [False, True])
def test_folder_whose_last_file_goes_stays(project: PipedProject, side: str, known: bool) -> None:
    root = project.local if side == "local" else project.remote
    if known:
        (root / "data").mkdir()
        told(project)
    (root / "data").mkdir(exist_ok=True)
    (root / "data/x").write_text("content")
    told(project)
    (root / "data/x").unlink()
    assert len(told(project)) == 1
    for each in (project.local, project.remote):
        assert list((each / "data").iterdir()) == []
    (root / "data").rmdir()
    assert told(project) == [("rmdir", "data")]


def test_folder_goes_with_the_files_in_it(project: PipedProject) -> None:
    (project.local / "data").mkdir()
    told(project)
    (project.local / "data/x").write_text("content")
    told(project)
    shutil.rmtree(project.local / "data")
    assert told(project) == [("delete", "data/x")]
    assert not (project.remote / "data").exists()


def test_folder_and_file_under_one_name(project: PipedProject) -> None:
    (project.local / "x").mkdir()
    told(project)
    (project.local / "x").rmdir()
    (project.local / "x").write_text("a file now")
    assert ("send", "x") in told(project)
    (project.remote / "x").unlink()
    (project.remote / "x").mkdir()
    told(project)
    assert (project.local / "x").is_dir()


def test_one_way_brings_no_folder_here_and_a_mirror_removes_it(project: PipedProject) -> None:
    (project.local / "mine").mkdir()
    (project.remote / "theirs").mkdir()
    assert told(project, SyncOptions(mode=Mode(one_way=True))) == [("mkdir", "mine")]
    assert not (project.local / "theirs").exists()
    assert (project.remote / "theirs").is_dir()
    (project.remote / "mine").rmdir()
    mirror = SyncOptions(mode=Mode(one_way=True, mirror=True))
    assert told(project, mirror) == [("rmdir", "theirs"), ("mkdir", "mine")]


def test_dry_run_lists_folders_and_makes_none(project: PipedProject) -> None:
    (project.local / "new").mkdir()
    assert told(project, SyncOptions(dry_run=True)) == [("mkdir", "new")]
    assert not (project.remote / "new").exists()


def test_nothing_is_made_behind_a_link(project: PipedProject, tmp_path: Path) -> None:
    (project.local / "d/e").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (project.remote / "d").symlink_to(tmp_path / "elsewhere")
    project.sync()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_forgetful_computer_keeps_folders(project: PipedProject) -> None:
    (project.local / "new").mkdir()
    told(project)
    (project.remote / "new/1.pt").write_text("ignored")
    project.without_memory()
    assert told(project) == []
    assert (project.local / "new").is_dir()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"rules": 1}', '{"rules": "", "folders": 3}'])
def test_folders_are_found_without_what_was_kept(project: PipedProject, damage: str) -> None:
    (project.local / "old").mkdir()
    told(project)
    (kept,) = (project.root / "indexes").glob("*.folders.json")
    kept.write_text(damage)
    (project.local / "new").mkdir()
    assert told(project) == [("mkdir", "new")]


def test_rules_that_change_hold_for_folders_that_did_not(project: PipedProject) -> None:
    (project.local / "build").mkdir()
    (project.local / ".gitignore").write_text("build/\n")
    assert told(project) == [("send", ".gitignore")]
    (project.local / ".gitignore").write_text("nothing\n")
    assert ("mkdir", "build") in told(project)
