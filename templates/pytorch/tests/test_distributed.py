"""Two processes train what one trains, over gloo, and go on after a kill."""

import os
import signal
import subprocess
import sys
import time

import pytest

import checkpoint
from compare import differences
from config import ConfigError
from conftest import COMPARABLE, FAST, PROJECT, TOLERANCE, Runs
from data.order import Order

SHORT = [*COMPARABLE, "--epochs", "2", "trainer.save_every=7"]


def start(runs: Runs, *arguments: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    return subprocess.Popen(
        [*command, str(PROJECT / "train.py"), *FAST, *SHORT, *arguments],
        cwd=runs.folder,
    )


def test_two_processes_agree_with_one_and_resume_exactly(runs: Runs) -> None:
    runs.done(*SHORT, "--out", "runs/one")
    assert start(runs, "--out", "runs/two").wait(timeout=90) == 0
    one, two = (
        checkpoint.resume(runs.folder / "runs" / name / "checkpoints") for name in ("one", "two")
    )
    weights = zip(one["model"].values(), two["model"].values(), strict=True)
    assert max((a - b).abs().max().item() for a, b in weights) < TOLERANCE
    assert len(two["processes"]) == 2

    killed = start(runs, "--out", "runs/killed")
    deadline = time.monotonic() + 60
    while not runs.checkpoints("runs/killed"):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.01)
    workers = subprocess.run(
        ["pgrep", "-P", str(killed.pid)], capture_output=True, text=True, check=True
    )
    for worker in [killed.pid, *map(int, workers.stdout.split())]:
        os.kill(worker, signal.SIGKILL)
    killed.wait()
    assert start(runs, "--out", "runs/killed", "--resume", "auto").wait(timeout=90) == 0
    assert differences(runs.folder / "runs/two", runs.folder / "runs/killed") == []


def test_batch_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.batch_size 32 cannot be split among 3 processes"):
        Order(100, 32, seed=0, world=3)
