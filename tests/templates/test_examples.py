"""Each example trains, saves, and goes on, with the packages that it asks for and nothing of ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.templates.torch_runs import run

EXAMPLES = Path(__file__).parents[2] / "templates" / "examples"

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


@pytest.mark.parametrize(
    ("name", "half", "whole", "said"),
    [
        ("one-file", ["--epochs", "1"], ["--epochs", "2"], "1 epochs are done"),
        (
            "char-model",
            ["--steps", "10", "--save-every", "5"],
            ["--steps", "20", "--save-every", "10"],
            "10 steps are done",
        ),
        (
            "image-folder",
            ["pictures", "--epochs", "1", "--workers", "0"],
            ["pictures", "--epochs", "2", "--workers", "0"],
            "1 epochs are done",
        ),
        ("lightning", ["--epochs", "1"], ["--epochs", "2"], "after 2 epochs"),
    ],
)
def test_example_trains_and_goes_on(
    name: str, half: list[str], whole: list[str], said: str, tmp_path: Path, torch_python: Path
) -> None:
    copy = shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("runs"))
    if name == "image-folder":
        run(torch_python, copy, "-c", DRAW)
    run(torch_python, copy, "train.py", *half)
    assert said in run(torch_python, copy, "train.py", *whole, "--resume", "auto")
    assert list((copy / "runs").glob("*/checkpoints/*"))
