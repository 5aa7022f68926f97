"""It learns; and what it offers beside that does what it says."""

import importlib.util
import json
import shutil
from pathlib import Path

import matplotlib.image
import pytest
import torch

import checkpoint
import train
from compare import differences
from conftest import COMPARABLE, FAST, TOLERANCE, Runs

RUN = Path("runs", "digits")


def rows(runs: Runs, out: Path = RUN) -> list[dict[str, float]]:
    return [
        json.loads(line) for line in (runs.folder / out / "metrics.jsonl").read_text().splitlines()
    ]


def test_three_epochs_learn_to_read_digits(runs: Runs) -> None:
    runs.done("model.width=32", "data.valid=0.1")
    assert rows(runs)[-1]["valid_accuracy"] > 0.95


def test_a_run_leaves_what_it_was_and_how_it_went(whole: Runs) -> None:
    folder = whole.folder / RUN
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints",
        "config.json",
        "metrics.jsonl",
    }
    assert json.loads((folder / "config.json").read_text())["model"]["width"] == 8
    epochs = [row for row in rows(whole) if "epoch" in row]
    assert [(row["epoch"], row["step"]) for row in epochs] == [(1, 22), (2, 44), (3, 66)]
    assert [row["step"] for row in rows(whole) if "loss" in row] == list(range(10, 67, 10))


def test_curves_and_predictions_are_drawn_and_tensorboard_is_told(runs: Runs) -> None:
    runs.done("trainer.plots=true", "trainer.tensorboard=true", "--epochs", "1")
    curves, predictions = (
        matplotlib.image.imread(runs.folder / RUN / name)[:, :, :3]
        for name in ("curves.png", "predictions.png")
    )
    is_coloured = curves.max(axis=2) - curves.min(axis=2) > 0.4
    assert is_coloured.mean() > 0.0005, "no curve, and no best step"
    assert (predictions < 0.5).mean() > 0.3, "no pictures"
    if importlib.util.find_spec("tensorboard"):
        assert list((runs.folder / RUN / "tensorboard").iterdir())


def test_parts_of_a_batch_add_up_to_the_batch(runs: Runs) -> None:
    """Only the rounding differs; dropout, whose random numbers fall otherwise, is off."""
    weights = []
    for accumulate in (1, 4):
        out = f"runs/{accumulate}"
        runs.done(*COMPARABLE, f"trainer.accumulate={accumulate}", "--out", out)
        weights.append(checkpoint.resume(runs.folder / out / "checkpoints")["model"])
    furthest = max((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0])
    assert 0 < furthest < TOLERANCE


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_less_precision_learns_and_resumes_exactly(runs: Runs, precision: str) -> None:
    options = [f"trainer.precision={precision}", "trainer.save_every=11", "--epochs", "2"]
    runs.done(*options, "--out", "runs/whole")
    half = "checkpoints/step-000033"
    shutil.copytree(runs.folder / "runs/whole" / half, runs.folder / "runs/half" / half)
    runs.done(*options, "--out", "runs/half", "--resume", "auto")
    assert differences(runs.folder / "runs/whole", runs.folder / "runs/half") == []
    losses = [row["train_loss"] for row in rows(runs, Path("runs/half")) if "epoch" in row]
    assert losses[1] < losses[0]


def test_loss_that_is_no_number_stops_before_the_update(runs: Runs) -> None:
    options = [
        "optimizer.name=SGD",
        "optimizer.lr=1e30",
        "trainer.clip_norm=0.0",
        "trainer.save_every=1",
    ]
    sentence = runs.refused(*options, status=1)
    step = int(runs.checkpoints()[-1].removeprefix("step-"))
    assert sentence.startswith(
        f"the loss of step {step + 1} is nan; the weights are those of step {step}."
    )


def test_too_little_memory_says_what_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def more_than_there_is(*_: object) -> None:
        torch.empty(1 << 50)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainer.trainer.Trainer.train_step", more_than_there_is)
    assert train.main([*FAST, "trainer.accumulate=2"]) == 1
    assert capsys.readouterr().err == ("train.py: too little memory: try data.batch_size=16\n")


def test_stops_early_when_nothing_gets_better_and_keeps_the_best(runs: Runs) -> None:
    options = ["optimizer.lr=1e-12", "trainer.early_stop=3", "trainer.keep=2", "--epochs", "9"]
    options += ["trainer.monitor=min train_accuracy"]
    out = runs.done(*options)
    state = checkpoint.resume(runs.folder / RUN / "checkpoints")
    best, last = state["best"]["step"], state["step"]
    assert last == best + 3 * 22 < 9 * 22
    kept = {f"step-{step:06d}" for step in (best, last - 22, last)}
    assert set(runs.checkpoints()) == kept
    assert f"test of step {best}: " in out


@pytest.mark.parametrize("name", ["ReduceLROnPlateau", "off"])
def test_scheduler_by_name(runs: Runs, name: str) -> None:
    text = Path(__file__).parents[1].joinpath("config.toml").read_text()
    path = runs.folder / "config.toml"
    path.write_text(text.replace("CosineAnnealingLR", name).replace("T_max = 10", ""))
    runs.done("-c", str(path), "--epochs", "1")
