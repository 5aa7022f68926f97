"""What cannot be is refused in one sentence, before anything is made."""

import json
from pathlib import Path

import pytest

import config
from conftest import PROJECT, Runs
from trainer import hardware

CONFIG = PROJECT / "config.toml"


def test_every_key_has_its_place_in_the_file() -> None:
    """config.toml shows all that can be set."""
    plain = config.read(CONFIG).model_dump()
    assert config.Config.model_validate(plain) == config.read(CONFIG, [])
    text = CONFIG.read_text()
    assert [key for key in config.flat(plain) if f"\n{key.split('.')[-1]} = " not in text] == []


def test_changes_are_read_as_toml_and_else_as_text() -> None:
    changed = config.read(
        CONFIG,
        ["name=mine", "trainer.epochs=7", "optimizer.betas=[0.8, 0.9]", 'metrics=["accuracy"]'],
    )
    assert (changed.name, changed.trainer.epochs, changed.metrics) == ("mine", 7, ["accuracy"])
    assert changed.optimizer.model_extra["betas"] == [0.8, 0.9]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("trainer.epoch=3", "unknown key trainer.epoch: did you mean trainer.epochs?"),
        ("name.x=3", "unknown key name.x: name has nothing below it"),
        ("epochs", "'epochs' is no change: write KEY=VALUE"),
        ("trainer.epochs=three", "trainer.epochs must be a valid integer, not 'three'"),
        ("trainer.epochs=0", "trainer.epochs must be greater than or equal to 1, not 0"),
        ("trainer=3", "trainer must be a valid dictionary or instance of Training, not 3"),
        ("model=3", "model must be a valid dictionary or instance of Named, not 3"),
        ("metrics=accuracy", "metrics must be a valid list, not 'accuracy'"),
        ("data.valid=nan", "data.valid must be a finite number, not nan"),
        ("data.valid=1", "data.valid must be less than 1, not 1"),
        ("name=../x", "name must match pattern"),
        ("seed=-1", "seed must be greater than or equal to 0, not -1"),
        ("device=tpu", "device must be 'auto', 'cuda' or 'cpu', not 'tpu'"),
        (
            "trainer.precision=fp8",
            "trainer.precision must be 'auto', 'fp32', 'bf16' or 'fp16', not 'fp8'",
        ),
        ("trainer.keep=1", "trainer.keep must be greater than or equal to 2, not 1"),
        (
            "trainer.accumulate=3",
            "data.batch_size 32 cannot be split among 1 processes and trainer.accumulate 3 equal",
        ),
        ("trainer.monitor=max speed", "trainer.monitor must be off, or min or max and one of "),
    ],
)
def test_bad_change_is_refused(change: str, sentence: str) -> None:
    with pytest.raises(config.ConfigError) as refused:
        config.read(CONFIG, [change])
    assert str(refused.value).startswith(sentence)


def test_early_stop_without_monitor_is_refused() -> None:
    with pytest.raises(
        config.ConfigError, match=r"trainer.early_stop needs .* set trainer.monitor"
    ):
        config.read(CONFIG, ["trainer.monitor=off", "trainer.early_stop=3"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot read {}: No such file"),
        ("name = ", "cannot read {}: "),
        ('name = "x"', "metrics is missing from the configuration"),
    ],
)
def test_bad_file_is_refused(tmp_path: Path, text: str | None, sentence: str) -> None:
    path = tmp_path / "config.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(config.ConfigError) as refused:
        config.read(path, [])
    assert str(refused.value).startswith(sentence.format(path))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("model.name=ConvNets", "unknown model.name ConvNets: did you mean ConvNet?"),
        ("model.widht=3", "unknown key model.widht: did you mean model.width?"),
        ("optimizer.name=Adamw", "unknown optimizer.name Adamw: did you mean AdamW?"),
        (
            "optimizer.lr=-1",
            "optimizer: AdamW does not take these values: Invalid learning rate: -1",
        ),
        ("scheduler.gamma=3", "unknown key scheduler.gamma: known: scheduler.T_max, "),
        ("loss.name=Conv2d", "unknown loss.name Conv2d: known: "),
        ('metrics=["accuracy","acuracy"]', "unknown metric acuracy: did you mean accuracy?"),
        ("data.name=digit", "unknown data.name digit: did you mean digits?"),
        ("data.shards=nowhere", "cannot copy the data in nowhere: No such file or directory"),
        ("data.batch_size=2000", "data.batch_size 2000 is more than the 719 training samples"),
        ("--out out", "cannot write to out: "),
        ("--epoch 3", "unrecognized arguments: --epoch"),
    ],
)
def test_bad_input_of_a_run_is_refused(runs: Runs, arguments: str, sentence: str) -> None:
    assert runs.refused(*arguments.split()).startswith(sentence)
    assert runs.checkpoints() == []


def test_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(config.ConfigError, match="device cuda was asked for, but PyTorch finds 0"):
        hardware.choose_device("cuda")


def test_config_of_the_old_template_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(OLD))
    read = config.read(path, [])
    assert (read.data.name, read.data.root, read.data.batch_size) == ("mnist", "data/", 128)
    assert read.model == config.Named(name="ConvNet")
    assert read.optimizer == config.Named(name="Adam", lr=0.001, weight_decay=0, amsgrad=True)
    assert read.scheduler == config.Named(name="StepLR", step_size=50, gamma=0.1)
    assert read.metrics == ["accuracy", "top3_accuracy"]
    assert (read.trainer.monitor, read.trainer.early_stop) == ("min valid_loss", 10)
    told = capsys.readouterr().out.splitlines()
    assert f"{path}: arch is model here: {{'name': 'ConvNet'}}" in told
    assert (
        f"{path}: n_gpu has no counterpart: torchrun --nproc-per-node N train.py uses N GPUs"
        in told
    )
    assert not any("trainer.epochs" in line for line in told)


def test_unknown_key_of_an_old_config_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(OLD | {"trainer": OLD["trainer"] | {"len_epoch": 3}}))
    with pytest.raises(config.ConfigError, match=r"unknown key trainer.len_epoch"):
        config.read(path, [])


# As it stands in victoresque/pytorch-template.
OLD = {
    "name": "Mnist_LeNet",
    "n_gpu": 1,
    "arch": {"type": "MnistModel", "args": {}},
    "data_loader": {
        "type": "MnistDataLoader",
        "args": {
            "data_dir": "data/",
            "batch_size": 128,
            "shuffle": True,
            "validation_split": 0.1,
            "num_workers": 2,
        },
    },
    "optimizer": {"type": "Adam", "args": {"lr": 0.001, "weight_decay": 0, "amsgrad": True}},
    "loss": "nll_loss",
    "metrics": ["accuracy", "top_k_acc"],
    "lr_scheduler": {"type": "StepLR", "args": {"step_size": 50, "gamma": 0.1}},
    "trainer": {
        "epochs": 100,
        "save_dir": "saved/",
        "save_period": 1,
        "verbosity": 2,
        "monitor": "min val_loss",
        "early_stop": 10,
        "tensorboard": True,
    },
}
