"""`init`: a whole project, or none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disks import fill, tiny_disk
from tests.support.house import House

HOSTILE = ["with space", "it's", "-dash", "new\nline", "$HOME", "schön"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


@pytest.mark.parametrize("name", ["digits", "deep/er", *HOSTILE])
def test_new_directory_gets_the_template(house: House, name: str) -> None:
    done = house.colabdev("init", "--", name)
    assert done.returncode == 0, done.stderr
    made = house.project / name
    assert sorted(path.name for path in made.iterdir()) == ["colabdev.toml", "train.py"]
    assert list(made.parent.glob(".colabdev-init-*")) == []


def test_empty_directory_one_stands_in_is_filled_and_stays_the_same(house: House) -> None:
    before = house.project.stat().st_ino
    assert house.colabdev("init").returncode == 0
    assert house.project.stat().st_ino == before
    assert (house.project / "train.py").is_file()


def test_json_names_what_was_made(house: House) -> None:
    document = json.loads(house.colabdev("init", "digits", "--json").stdout)
    assert document == {
        "schema": 1,
        "path": str(house.project / "digits"),
        "template": "minimal",
        "files": ["colabdev.toml", "train.py"],
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["full", "--template", "minimal"], "something is there already"),
        (["file"], "is a file"),
        (["link"], "something is there already"),
        (["x", "--template", "pytroch"], "did you mean 'pytorch'?"),
        (["x", "--template", "keras"], "known: char-model"),
        (["x", "--template", ""], "unknown template ''"),
        (["/"], "root of a disk"),
        (["x", "y"], "unexpected extra argument"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    house: House, arguments: list[str], says: str
) -> None:
    (house.project / "full").mkdir()
    (house.project / "full" / "mine").write_text("mine")
    (house.project / "file").write_text("mine")
    (house.project / "empty").mkdir()
    (house.project / "link").symlink_to("empty")
    before = sorted(house.project.rglob("*"))
    done = house.colabdev("init", *arguments)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert sorted(house.project.rglob("*")) == before
    assert (house.project / "full" / "mine").read_text() == "mine"


def test_project_that_is_there_gets_its_settings_alone(house: House) -> None:
    (house.project / "mine.py").write_text("mine")
    done = house.colabdev("init")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in house.project.iterdir()) == ["colabdev.toml", "mine.py"]
    assert (house.project / "mine.py").read_text() == "mine"
    again = house.colabdev("init")
    assert (again.returncode, "something is there already" in again.stderr) == (2, True)


def test_checkpoint_alone_comes_into_any_project(house: House) -> None:
    (house.project / "mine.py").write_text("mine")
    document = json.loads(house.colabdev("init", "--only", "checkpoint", "--json").stdout)
    assert document["files"] == ["checkpoint.py"]
    assert "def resume(" in (house.project / "checkpoint.py").read_text()


@pytest.mark.parametrize("name", ["char-model", "image-folder", "lightning"])
def test_example_is_a_template_too(house: House, name: str) -> None:
    assert house.colabdev("init", "x", "--template", name).returncode == 0
    made = {path.name for path in (house.project / "x").iterdir()}
    assert made == {"colabdev.toml", "requirements.txt", "train.py"}


def test_home_is_refused(house: House) -> None:
    done = house.colabdev("init", cwd=house.home)
    assert done.returncode == 2
    assert "home directory" in done.stderr
    assert list(house.home.iterdir()) == []


def test_full_disk_leaves_nothing_half_made(house: House) -> None:
    with tiny_disk(house.project, size_kb=64) as disk:
        fill(disk / "ballast")
        done = house.colabdev("init", "digits", cwd=house.home.parent)
        assert done.returncode == 0  # Elsewhere there is room.
        done = house.colabdev("init", disk / "digits")
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert [path.name for path in disk.iterdir()] == ["ballast"]
