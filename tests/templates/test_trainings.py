"""Each template trains, saves, and goes on, with the packages that it asks for and nothing of ours.

And the tests that the pytorch template brings hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from colabdev.agent.finding import candidates
from colabdev.config.settings import load_settings
from tests.templates.conftest import PYTORCH, TEMPLATES, copied
from tests.templates.torch_runs import Trainings

# Whichever test comes first may have to wait until PyTorch is installed.
pytestmark = pytest.mark.timeout(1200)

DRAW = """
import numpy, pathlib, PIL.Image
for at in range(20):
    folder = pathlib.Path("pictures", ("dark", "light")[at % 2])
    folder.mkdir(parents=True, exist_ok=True)
    pixels = numpy.full((20, 30, 3), 40 + 150 * (at % 2) + at, dtype="uint8")
    PIL.Image.fromarray(pixels).save(folder / f"{at}.png")
"""


@pytest.fixture(scope="module")
def trainings(torch_python: Path) -> Iterator[Trainings]:
    with Trainings(torch_python) as trainings:
        yield trainings


@pytest.mark.parametrize(
    ("name", "half", "whole", "said"),
    [
        ("minimal", ["--epochs", "1"], ["--epochs", "2"], "at epoch 2"),
        (
            "examples/char-model",
            ["--context", "16", "--steps", "4", "--save-every", "2"],
            ["--context", "16", "--steps", "8", "--save-every", "4"],
            "4 steps are done",
        ),
        (
            "examples/image-folder",
            ["pictures", "--size", "16", "--epochs", "1", "--workers", "0"],
            ["pictures", "--size", "16", "--epochs", "2", "--workers", "0"],
            "1 epochs are done",
        ),
        ("examples/lightning", ["--epochs", "1"], ["--epochs", "2"], "after 2 epochs"),
    ],
)
def test_example_trains_and_goes_on(
    name: str, half: list[str], whole: list[str], said: str, tmp_path: Path, trainings: Trainings
) -> None:
    copy = copied(TEMPLATES / name, tmp_path / "project")
    if name == "examples/image-folder":
        (tmp_path / "draw.py").write_text(DRAW)
        trainings.run(copy, str(tmp_path / "draw.py"))
    trainings.run(copy, "train.py", *half)
    assert said in trainings.run(copy, "train.py", *whole, "--resume", "auto")
    found = list(candidates([str(copy / "runs/*/checkpoints")], since=0.0))
    assert found, "what it saves is taken for a checkpoint, and carried"


def test_settings_say_what_the_template_does_and_test_measures_the_same(
    tmp_path: Path, trainings: Trainings
) -> None:
    copy = copied(PYTORCH, tmp_path / "it's my digits")
    trained = trainings.run(copy, "train.py", "--epochs", "1", "trainer.plots=false")
    settings = load_settings(copy / "colabdev.toml")
    assert settings.sync.outputs == ("runs/",)
    assert settings.checkpoints.resume == "--resume {path}"
    assert settings.checkpoints.dir is not None
    (saved,) = (copy / "runs").rglob("step-*")
    assert fnmatch(saved.parent.relative_to(copy).as_posix(), settings.checkpoints.dir)
    assert f"keep = {settings.checkpoints.keep}" in (copy / "config.toml").read_text()
    assert settings.job.requirements is not None
    assert (copy / settings.job.requirements).is_file()

    (last,) = (line for line in trained.splitlines() if line.startswith("test of step 40: "))
    for arguments in ([], ["-r", "latest"], ["-r", str(saved)]):
        measured = trainings.run(copy, "test.py", *arguments)
        assert measured.split(": ")[1].strip() == last.split(": ")[1]


@pytest.mark.parametrize("which", ["not long", pytest.param("long", marks=pytest.mark.long)])
def test_its_own_tests_hold(which: str, tmp_path: Path, trainings: Trainings) -> None:
    """Behind `long` those that take long: it is killed 20 times, and started by the real torchrun."""
    copy = copied(PYTORCH, tmp_path / "it's my digits")
    assert " passed" in trainings.run(copy, "-m", "pytest", "-m", which)
