"""The pytorch template: its own tests hold, and it is what colabdev.toml says of it."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest

from colabdev.config.settings import load_settings
from tests.templates.torch_runs import run

TEMPLATE = Path(__file__).parents[2] / "templates" / "pytorch"

# Whichever test comes first may have to wait until PyTorch is installed.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    left = shutil.ignore_patterns("runs", "__pycache__", ".pytest_cache")
    return shutil.copytree(TEMPLATE, tmp_path / "it's my digits", ignore=left)


def test_its_own_tests_hold(copy: Path, torch_python: Path) -> None:
    assert " passed" in run(torch_python, copy, "-m", "pytest")


@pytest.mark.long
def test_killed_twenty_times_it_still_ends_the_same(copy: Path, torch_python: Path) -> None:
    assert "1 passed" in run(
        torch_python, copy, "-m", "pytest", "-k", "killed_anywhere", KILLS="20"
    )


def test_settings_say_what_the_template_does(copy: Path, torch_python: Path) -> None:
    assert "test of step 40: " in run(torch_python, copy, "train.py", "--epochs", "1")
    settings = load_settings(copy / "colabdev.toml")
    assert settings.sync.outputs == ("runs/",)
    assert settings.checkpoints.resume == "--resume {path}"
    assert settings.checkpoints.dir is not None
    (saved,) = (copy / "runs").rglob("step-*")
    assert fnmatch(saved.parent.relative_to(copy).as_posix(), settings.checkpoints.dir)
    assert f"keep = {settings.checkpoints.keep}" in (copy / "config.toml").read_text()
    assert settings.job.requirements is not None
    assert (copy / settings.job.requirements).is_file()


def test_checkpoint_is_measured_again(copy: Path, torch_python: Path) -> None:
    trained = run(torch_python, copy, "train.py", "--epochs", "1", "trainer.plots=false")
    measured = run(torch_python, copy, "test.py")
    (last,) = (line for line in trained.splitlines() if line.startswith("test of"))
    assert measured.split(": ")[1].strip() == last.split(": ")[1]
