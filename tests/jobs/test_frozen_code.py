"""A job runs the code it was started with, and what it writes beside its code is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from colabdev.agent import frozen
from colabdev.agent.jobdir import JobFiles
from tests.support.house import House
from tests.support.jobs import Running, allow, job_directory, listed, run_bytes, workdir

TRAIN = """
import os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
print("v1", open("data/by_cwd.txt").read(), open(os.path.join(here, "data", "by_file.txt")).read())
while not os.path.exists("edited"):
    time.sleep(0.02)
import late
import package.inner
print(late.VERSION, package.inner.VERSION, open(os.path.join(here, "settings.txt")).read())
open(os.path.join(here, "model.bin"), "w").write("weights")
open(os.path.join(here, "package", "cache.bin"), "w").write("cache")
open("by_cwd.out", "w").write("by cwd")
print(os.path.exists(os.path.join(here, "created_later")))
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        house.connect()
        yield house


def write_project(house: House, version: str) -> None:
    (house.project / "package").mkdir(exist_ok=True)
    (house.project / "train.py").write_text(TRAIN.replace("v1", version))
    (house.project / "late.py").write_text(f"VERSION = 'late {version}'")
    (house.project / "package" / "__init__.py").write_text("")
    (house.project / "package" / "inner.py").write_text(f"VERSION = 'inner {version}'")
    (house.project / "settings.txt").write_text(f"settings {version}")


@pytest.mark.parametrize("how", [("train.py",), ("-m", "train")], ids=["script", "module"])
def test_edits_that_are_synced_meanwhile_do_not_reach_a_running_job(
    house: House, how: tuple[str, ...]
) -> None:
    write_project(house, "v1")
    data = workdir(house) / "data"
    assert house.colabdev("sync").returncode == 0
    data.mkdir()
    (data / "by_cwd.txt").write_text("cwd")
    (data / "by_file.txt").write_text("file")
    with Running(house, "run", "--name", "frozen", *how) as running:
        assert running.read(12) == b"v1 cwd file\n"
        write_project(house, "v2")
        (house.project / "package" / "inner.py").unlink()
        done = house.colabdev("sync")
        assert done.returncode == 0, done.stderr
        assert (workdir(house) / "late.py").read_text() == "VERSION = 'late v2'"
        assert not (workdir(house) / "package" / "inner.py").exists()
        allow(house, "edited")
        status, out, err = running.finish()
    assert (status, out) == (0, b"late v1 inner v1 settings v1\nFalse\n"), err
    place = workdir(house)
    assert (place / "model.bin").read_text() == "weights"
    assert (place / "package" / "cache.bin").read_text() == "cache"
    assert (place / "by_cwd.out").read_text() == "by cwd"
    assert (place / "late.py").read_text() == "VERSION = 'late v2'"
    assert not list(place.rglob("__pycache__"))
    [job] = listed(house)
    assert not (job_directory(house, job["id"]) / "code").exists()


def test_result_that_stays_beside_the_code_is_said(house: House) -> None:
    script = (
        "import os, time\n"
        "print('go')\n"
        "while not os.path.exists('edited'):\n    time.sleep(0.02)\n"
        "here = os.path.dirname(os.path.abspath(__file__))\n"
        "open(os.path.join(here, 'result.txt'), 'w').write('theirs')\n"
    )
    (house.project / "job.py").write_text(script)
    (house.project / "result.txt").write_text("first")
    with Running(house, "run", "job.py") as running:
        assert running.read(3) == b"go\n"
        (house.project / "result.txt").write_text("mine")
        assert house.colabdev("sync").returncode == 0
        allow(house, "edited")
        status, _, err = running.finish()
    assert status == 0
    [job] = listed(house)
    assert "'result.txt': written beside the job's code and not moved" in err
    left = list((job_directory(house, job["id"]) / "code").rglob("result.txt"))
    assert [path.read_text() for path in left] == ["theirs"]
    assert (workdir(house) / "result.txt").read_text() == "mine"


def test_in_place_runs_in_the_work_dir(house: House) -> None:
    (house.project / "where.py").write_text("print(__file__)")
    status, out, err = run_bytes(house, "run", "--in-place", "where.py")
    assert (status, out.decode()) == (0, f"{workdir(house)}/where.py\n"), err


def test_conflict_stops_run_and_starts_nothing(house: House) -> None:
    (house.project / "x.py").write_text("print('first')")
    assert house.colabdev("run", "x.py").stdout == "first\n"
    (house.project / "x.py").write_text("print('here')")
    (workdir(house) / "x.py").write_text("print('there')")
    done = house.colabdev("run", "x.py")
    assert (done.returncode, done.stdout) == (3, "")
    assert "were edited here and on the runtime" in done.stderr
    assert len(listed(house)) == 1
    assert house.colabdev("run", "--no-sync", "x.py").stdout == "there\n"


# --- bringing back, without a runtime ------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, JobFiles]:
    """A work dir with one file of ours in a folder, and a job that has its code."""
    workdir = tmp_path / "work"
    (workdir / "src" / "data").mkdir(parents=True)
    (workdir / "src" / "a.py").write_text("a")
    (workdir / "old.txt").write_text("old")
    job = tmp_path / "job"
    job.mkdir()
    files = JobFiles(str(job))
    frozen.freeze(str(workdir), "tree", ["src/a.py"], ".colabdev", files)
    return workdir, files


def test_strangers_inside_copied_folders_are_linked(place: tuple[Path, JobFiles]) -> None:
    workdir, files = place
    code = Path(files.code) / "tree"
    assert os.readlink(code / "src" / "data") == str(workdir / "src" / "data")
    assert not (code / "src" / "a.py").is_symlink()
    assert os.readlink(code / "old.txt") == str(workdir / "old.txt")
    assert sorted(os.listdir(code)) == ["old.txt", "src"]


def test_new_files_are_moved_and_moving_again_does_nothing(place: tuple[Path, JobFiles]) -> None:
    workdir, files = place
    code = Path(files.code) / "tree"
    (code / "runs" / "1").mkdir(parents=True)
    (code / "runs" / "1" / "model").write_bytes(b"m")
    (code / "__pycache__").mkdir()
    (code / "__pycache__" / "a.pyc").write_bytes(b"c")
    assert frozen.bring_back(str(workdir), files) == []
    assert (workdir / "runs" / "1" / "model").read_bytes() == b"m"
    assert not (workdir / "__pycache__").exists()
    assert frozen.bring_back(str(workdir), files) == []


def test_newer_file_in_the_work_dir_stays(place: tuple[Path, JobFiles]) -> None:
    workdir, files = place
    code = Path(files.code) / "tree"
    for name, age_s in (("newer", 10), ("older", -10)):
        (code / name).write_text("job")
        (workdir / name).write_text("user")
        moment = (code / name).stat().st_mtime + age_s
        os.utime(workdir / name, (moment, moment))
    assert frozen.bring_back(str(workdir), files) == [("newer", "the work dir's file is newer")]
    assert (workdir / "newer").read_text() == "user"
    assert (code / "newer").read_text() == "job"
    assert (workdir / "older").read_text() == "job"


def test_own_code_that_the_job_changed_comes_back_unless_it_was_edited_too(
    place: tuple[Path, JobFiles],
) -> None:
    workdir, files = place
    code = Path(files.code) / "tree"
    (code / "src" / "a.py").write_text("changed by the job")
    assert frozen.bring_back(str(workdir), files) == []
    assert (workdir / "src" / "a.py").read_text() == "changed by the job"
    assert not code.exists()
    (code / "src").mkdir(parents=True)
    (code / "src" / "a.py").write_text("changed by the job again")
    kept = frozen.bring_back(str(workdir), files)
    assert kept == [("src/a.py", "the work dir's file was edited meanwhile")]
    assert (workdir / "src" / "a.py").read_text() == "changed by the job"


def test_folder_where_the_job_wrote_a_file_keeps_the_file_where_it_is(
    place: tuple[Path, JobFiles],
) -> None:
    workdir, files = place
    (Path(files.code) / "tree" / "out").write_text("file")
    (workdir / "out").mkdir()
    [(path, reason)] = frozen.bring_back(str(workdir), files)
    assert (path, reason) == ("out", "something that is no file stands there")


def test_links_that_the_job_made_come_back_and_ours_do_not(place: tuple[Path, JobFiles]) -> None:
    workdir, files = place
    code = Path(files.code) / "tree"
    (code / "runs" / "3").mkdir(parents=True)
    (code / "runs" / "3" / "model").write_text("weights")
    (code / "latest").symlink_to("runs/3")
    (code / "best").symlink_to(code / "runs" / "3" / "model")
    (code / "old").symlink_to("nowhere")
    assert frozen.bring_back(str(workdir), files) == []
    assert os.readlink(workdir / "latest") == "runs/3"
    assert (workdir / "best").read_text() == "weights", "it leads to where its target was moved"
    assert os.readlink(workdir / "old") == "nowhere"
    assert not (workdir / "old.txt").is_symlink()
    assert not (workdir / "src" / "data").is_symlink()
    assert not Path(files.code).exists()


def test_link_that_cannot_come_back_is_noted_and_stays(place: tuple[Path, JobFiles]) -> None:
    workdir, files = place
    code = Path(files.code) / "tree"
    (code / "out").symlink_to("elsewhere")
    (workdir / "out").mkdir()
    kept = frozen.bring_back(str(workdir), files)
    assert kept == [("out", "something that is no link stands there")]
    assert os.readlink(code / "out") == "elsewhere"


def test_own_links_are_only_brought_back_when_the_job_changed_them(tmp_path: Path) -> None:
    workdir, job = tmp_path / "work", tmp_path / "job"
    for folder in (workdir, job):
        folder.mkdir()
    for name in ("same", "changed"):
        (workdir / name).symlink_to("first")
    files = JobFiles(str(job))
    frozen.freeze(str(workdir), "tree", ["same", "changed"], ".colabdev", files)
    changed = Path(files.code) / "tree" / "changed"
    changed.unlink()
    changed.symlink_to("second")
    assert frozen.bring_back(str(workdir), files) == []
    assert os.readlink(workdir / "changed") == "second"
    assert os.readlink(workdir / "same") == "first"
