"""The pytorch template does what it teaches: it learns, and no interruption costs it anything."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from colabdev.config.settings import load_settings
from tests.support.waiting import wait_until

TEMPLATE = Path(__file__).parents[2] / "templates" / "pytorch"
STEPS_PER_EPOCH = 45
NEWEST = "runs/digits/checkpoints/step-000135"  # after three epochs
# Enough for an interruption to come long before the end, even on a computer that is busy.
EPOCHS = 10

# Whichever test comes first may have to wait until PyTorch is installed.
pytestmark = pytest.mark.timeout(600)

# Prints what differs between the states in two checkpoints, but for the times that it took.
COMPARE = """
import sys, torch
def compare(name, one, two):
    if isinstance(one, torch.Tensor):
        same = one.dtype == two.dtype and torch.equal(one, two)
    elif isinstance(one, dict):
        same = list(one) == list(two)
        [compare(f"{name}.{key}", one[key], two[key]) for key in one if key in two]
    elif isinstance(one, (list, tuple)):
        same = len(one) == len(two)
        [compare(f"{name}.{at}", *pair) for at, pair in enumerate(zip(one, two))]
    else:
        same = one == two or name.endswith(".samples_per_s")
    if not same:
        print(name)
compare("state", *(torch.load(path, weights_only=True) for path in sys.argv[1:]))
"""

# What a model may end with, for a signal that comes at a known time.
STOP_IN_STEP_60 = """

import itertools, os, signal
calls = itertools.count(1)
forward = DigitsNet.forward
def forward_and_stop(self, images):
    if next(calls) == 60:
        os.kill(os.getpid(), signal.SIGTERM)
    return forward(self, images)
DigitsNet.forward = forward_and_stop
"""


@dataclass(frozen=True, slots=True)
class Copy:
    """A project that a user made from the template."""

    folder: Path
    python: Path

    def train(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("train.py", *arguments)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, *arguments],
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def interrupt(self, number: signal.Signals, *arguments: str) -> int:
        """Start training, send the signal soon after the first checkpoint; the exit status."""
        before = set(self.folder.rglob("step-*"))
        with subprocess.Popen(
            [self.python, "train.py", *arguments],
            cwd=self.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                wait_until(
                    lambda: set(self.folder.rglob("step-*")) - before,
                    timeout_s=60,
                    message="no checkpoint appeared",
                )
                process.send_signal(number)
                return process.wait(timeout=60)
            finally:
                process.kill()

    def checkpoints(self, out: str = "runs/digits") -> list[Path]:
        return sorted((self.folder / out / "checkpoints").glob("step-*"))

    def metrics(self, out: str = "runs/digits") -> list[dict[str, Any]]:
        lines = (self.folder / out / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def environment() -> dict[str, str]:
    """Ours, on a computer without a GPU: only on a CPU are two runs equal bit for bit.

    With one thread: several wait for each other in a busy loop, which takes minutes when other
    tests want the same cores.
    """
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def make_copy(folder: Path, python: Path) -> Copy:
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    return Copy(folder, python)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, torch_python: Path
) -> tuple[Copy, subprocess.CompletedProcess[str]]:
    """A project after `python train.py --epochs 3`, and what that printed."""
    copy = make_copy(tmp_path_factory.mktemp("trained") / "digits", torch_python)
    return copy, copy.train("--epochs", "3")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, torch_python: Path) -> Copy:
    """A project after a run that nobody interrupted."""
    copy = make_copy(tmp_path_factory.mktemp("whole") / "digits", torch_python)
    assert copy.train("--epochs", str(EPOCHS)).returncode == 0
    return copy


@pytest.fixture
def fresh(tmp_path: Path, torch_python: Path) -> Copy:
    return make_copy(tmp_path / "it's my digits", torch_python)


@pytest.fixture
def done(trained: tuple[Copy, object], tmp_path: Path) -> Copy:
    """A project of three epochs that the test may spoil."""
    copy, _ = trained
    return Copy(shutil.copytree(copy.folder, tmp_path / "it's my digits"), copy.python)


def test_three_epochs_reach_95_percent(
    trained: tuple[Copy, subprocess.CompletedProcess[str]],
) -> None:
    _, run = trained
    assert (run.returncode, run.stderr) == (0, "")
    last = re.fullmatch(r"test accuracy (0\.\d{3})", run.stdout.splitlines()[-1])
    assert last is not None
    assert float(last[1]) >= 0.95


def test_run_says_what_it_found_and_how_far_it_is(
    trained: tuple[Copy, subprocess.CompletedProcess[str]],
) -> None:
    copy, run = trained
    device, *progress, _ = run.stdout.splitlines()
    assert device == "device: cpu (no GPU was found)"
    number = r"[\d.,]+"
    for epoch, line in enumerate(progress, start=1):
        step = epoch * STEPS_PER_EPOCH
        assert re.fullmatch(
            rf"epoch {epoch}/3  step {step}  loss {number}  accuracy {number}  {number} samples/s",
            line,
        )
    rows = copy.metrics()
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 45), (2, 90), (3, 135)]
    assert all(set(row) >= {"loss", "accuracy", "samples_per_s"} for row in rows)


def test_manifest_tells_size_and_hashes_of_every_file(
    trained: tuple[Copy, subprocess.CompletedProcess[str]],
) -> None:
    newest = trained[0].checkpoints()[-1]
    manifest = json.loads((newest / "MANIFEST.json").read_text(encoding="ascii"))
    state = (newest / "state.pt").read_bytes()
    assert {path.name for path in newest.iterdir()} == {"MANIFEST.json", "state.pt"}
    assert (manifest["step"], manifest["device"]) == (135, "cpu")
    assert re.match(r"\d+\.\d+", manifest["torch"])
    assert manifest["files"] == [
        {
            "path": "state.pt",
            "size": len(state),
            "sha256": hashlib.sha256(state).hexdigest(),
            "md5": hashlib.md5(state, usedforsecurity=False).hexdigest(),
        }
    ]


def test_the_newest_three_checkpoints_stay(whole: Copy) -> None:
    names = [path.name for path in whole.checkpoints()]
    assert names == [f"step-{epoch * STEPS_PER_EPOCH:06d}" for epoch in (8, 9, 10)]


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143), (signal.SIGINT, 130)],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    whole: Copy, fresh: Copy, number: signal.Signals, status: int
) -> None:
    out = 'runs/a "b" $c\n'
    options = ["--epochs", str(EPOCHS), "--out", out]
    assert fresh.interrupt(number, *options) == status
    interrupted_at = int(fresh.checkpoints(out)[-1].name.removeprefix("step-"))
    assert interrupted_at < EPOCHS * STEPS_PER_EPOCH

    resumed = fresh.train(*options, "--resume", "auto")

    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert f"{interrupted_at} steps are done" in resumed.stdout
    assert differences(whole.checkpoints()[-1], fresh.checkpoints(out)[-1], fresh) == []
    assert without_times(fresh.metrics(out)) == without_times(whole.metrics())


def test_signal_within_an_epoch_saves_the_step_that_it_came_in(whole: Copy, fresh: Copy) -> None:
    model = fresh.folder / "model.py"
    original = model.read_text()
    model.write_text(original + STOP_IN_STEP_60)
    stopped = fresh.train("--epochs", str(EPOCHS))
    assert (stopped.returncode, stopped.stderr.count("\n")) == (143, 1)
    assert "stopped after step 60; " in stopped.stderr
    assert [path.name for path in fresh.checkpoints()] == ["step-000045", "step-000060"]

    model.write_text(original)
    assert fresh.train("--epochs", str(EPOCHS), "--resume", "auto").returncode == 0

    assert differences(whole.checkpoints()[-1], fresh.checkpoints()[-1], fresh) == []
    assert without_times(fresh.metrics()) == without_times(whole.metrics())


def differences(one: Path, two: Path, copy: Copy) -> list[str]:
    compared = copy.run("-c", COMPARE, str(one / "state.pt"), str(two / "state.pt"))
    assert compared.returncode == 0, compared.stderr
    return compared.stdout.split()


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in row if key != "samples_per_s"} for row in rows]


def test_differences_are_seen(done: Copy) -> None:
    """The comparison above is worth something."""
    older, _, newer = done.checkpoints()
    found = differences(older, newer, done)
    assert {"state.step", "state.random.cpu", "state.model.head.weight"} <= set(found)


def flip_a_bit(checkpoint: Path) -> None:
    state = bytearray((checkpoint / "state.pt").read_bytes())
    state[len(state) // 2] ^= 1
    (checkpoint / "state.pt").write_bytes(state)


def cut_in_half(checkpoint: Path) -> None:
    os.truncate(checkpoint / "state.pt", (checkpoint / "state.pt").stat().st_size // 2)


def remove_state(checkpoint: Path) -> None:
    (checkpoint / "state.pt").unlink()


def remove_manifest(checkpoint: Path) -> None:
    (checkpoint / "MANIFEST.json").unlink()


def tear_manifest(checkpoint: Path) -> None:
    os.truncate(checkpoint / "MANIFEST.json", 20)


def name_nothing(checkpoint: Path) -> None:
    (checkpoint / "MANIFEST.json").write_text('{"files": []}')


def name_a_file_elsewhere(checkpoint: Path) -> None:
    manifest = (checkpoint / "MANIFEST.json").read_text()
    elsewhere = f"../{checkpoint.name}/state.pt"
    (checkpoint / "MANIFEST.json").write_text(manifest.replace("state.pt", elsewhere))


DAMAGES: dict[Callable[[Path], None], str] = {
    flip_a_bit: "state.pt is not what MANIFEST.json says",
    cut_in_half: "state.pt is not what MANIFEST.json says",
    remove_state: "state.pt is not what MANIFEST.json says",
    remove_manifest: "it has no MANIFEST.json",
    tear_manifest: "its MANIFEST.json cannot be read",
    name_nothing: "its MANIFEST.json does not name state.pt",
    name_a_file_elsewhere: "../name_a_file_elsewhere/state.pt is not what MANIFEST.json says",
}


def test_every_damage_is_noticed_and_named(done: Copy) -> None:
    *_, newest = done.checkpoints()
    for damage in DAMAGES:
        damage(shutil.copytree(newest, done.folder / damage.__name__))
    script = """
import pathlib, sys, checkpoint
for name in sys.argv[1:]:
    print(checkpoint.damage(pathlib.Path(name)))
"""
    told = done.run("-c", script, str(newest), *(damage.__name__ for damage in DAMAGES))
    assert told.stdout.splitlines() == ["None", *DAMAGES.values()], told.stderr


def test_damaged_newest_checkpoint_falls_back_to_the_one_before(whole: Copy, done: Copy) -> None:
    flip_a_bit(done.checkpoints()[-1])

    resumed = done.train("--epochs", "4", "--resume", "auto")

    assert resumed.returncode == 0
    assert resumed.stderr == f"skipped {NEWEST}: {DAMAGES[flip_a_bit]}\n"
    assert "resumed runs/digits/checkpoints/step-000090: 2 epochs" in resumed.stdout
    # The damaged one was written anew, and every line of the metrics is there once.
    names = [path.name for path in done.checkpoints()]
    assert names == ["step-000090", "step-000135", "step-000180"]
    assert without_times(done.metrics()) == without_times(whole.metrics())[:4]


def test_pruning_counts_only_what_verifies_and_leaves_two(fresh: Copy) -> None:
    script = """
import pathlib, torch, checkpoint
def save(step, keep):
    checkpoint.save(folder, step, {"step": step}, "cpu", keep=keep)
    print(*(step for step, _ in checkpoint.checkpoints(folder)))
folder = pathlib.Path("checkpoints")
for step in range(1, 5):
    save(step, keep=1)
(folder / "step-000004" / "MANIFEST.json").unlink()
save(5, keep=2)
save(1_000_000, keep=2)
"""
    ran = fresh.run("-c", script)
    assert ran.stdout.splitlines() == ["1", "1 2", "2 3", "3 4", "3 4 5", "5 1000000"], ran.stderr


def test_checkpoint_is_never_overwritten(fresh: Copy) -> None:
    script = """
import pathlib, checkpoint
for value in "one", "another":
    checkpoint.save(pathlib.Path("checkpoints"), 7, {"value": value}, "cpu")
"""
    error = fresh.run("-c", script).stderr.splitlines()[-1]
    assert error.endswith(
        "CheckpointError: cannot save checkpoints/step-000007: it is there already"
    )


def test_code_in_a_checkpoint_is_not_run(done: Copy) -> None:
    script = """
import json, os, pathlib, sys, torch, checkpoint
class Code:
    def __reduce__(self):
        return os.mkdir, ("harm",)
folder = pathlib.Path(sys.argv[1])
torch.save(Code(), folder / "state.pt")
(folder / "MANIFEST.json").write_text(json.dumps(checkpoint.describe(folder, 135, "cpu")))
"""
    newest = str(done.checkpoints()[-1])
    assert done.run("-c", script, newest).returncode == 0

    assert "state.pt" in refusal(done, "--resume", newest)
    assert not (done.folder / "harm").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--epochs 0", "--epochs and --batch-size must be at least 1"),
        ("--epochs three", "argument --epochs: invalid int value: 'three'"),
        ("--lr nan", "--lr must be a number above 0, "),
        ("--seed -1", "--seed a whole number from 0 "),
        ("--epoch-count 3", "unrecognized arguments: --epoch-count 3"),
        ("--device cuda", "--device cuda was asked for, but PyTorch finds no such GPU here"),
        ("--out train.py", "cannot write to train.py: "),
        ("--resume nowhere", "cannot resume nowhere: there is no such checkpoint"),
        ("--resume runs", "cannot resume runs: it has no MANIFEST.json"),
        (f"--resume {NEWEST} --seed 1", f"cannot resume {NEWEST}: its run had --seed 0"),
        (f"--resume {NEWEST} --epochs 2", "its run is beyond --epochs 2 already"),
        ("", f"{NEWEST} is of an earlier run: add --resume auto, or choose another --out"),
    ],
)
def test_bad_arguments_are_refused(done: Copy, arguments: str, sentence: str) -> None:
    assert sentence in refusal(done, *arguments.split())


def test_checkpoint_of_another_model_is_refused(done: Copy) -> None:
    model = done.folder / "model.py"
    model.write_text(model.read_text().replace("64", "48"))
    sentence = refusal(done, "--resume", NEWEST)
    assert f"cannot resume {NEWEST}: it is of another model (size mismatch for head" in sentence


def test_damaged_checkpoint_is_refused_when_named(done: Copy) -> None:
    flip_a_bit(done.checkpoints()[-1])
    sentence = refusal(done, "--resume", NEWEST)
    assert f"cannot resume {NEWEST}: state.pt is not what MANIFEST.json says" in sentence


def test_auto_never_starts_over_when_everything_is_damaged(done: Copy) -> None:
    for checkpoint in done.checkpoints():
        remove_manifest(checkpoint)
    run = done.train("--resume", "auto")
    *skipped, sentence = run.stderr.splitlines()
    assert (run.returncode, len(skipped)) == (2, 3)
    assert sentence.endswith("every checkpoint in runs/digits/checkpoints is damaged")


def refusal(copy: Copy, *arguments: str) -> str:
    """The one sentence that the bad arguments are met with; nothing is changed by them."""
    before = [path.name for path in copy.checkpoints()], copy.metrics()
    run = copy.train(*arguments)
    assert run.returncode == 2, run.stderr
    (sentence,) = run.stderr.splitlines()
    assert ([path.name for path in copy.checkpoints()], copy.metrics()) == before
    return sentence


def test_settings_say_what_the_template_does(
    trained: tuple[Copy, subprocess.CompletedProcess[str]],
) -> None:
    copy, _ = trained
    settings = load_settings(copy.folder / "colabdev.toml")
    assert settings.sync.outputs == ("runs/",)
    assert settings.checkpoints.resume == "--resume {path}"
    assert settings.checkpoints.keep == 3
    assert settings.checkpoints.dir is not None
    for checkpoint in copy.checkpoints():
        where = checkpoint.parent.relative_to(copy.folder).as_posix()
        assert fnmatch(where, settings.checkpoints.dir)
    assert settings.job.requirements is not None
    assert (copy.folder / settings.job.requirements).is_file()
