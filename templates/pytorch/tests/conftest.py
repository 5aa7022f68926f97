"""Runs for the tests: each in a process of its own, forked from this one, which imported everything."""

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))
# Several threads wait for each other in a busy loop; these networks are too small to gain from them.
os.environ["OMP_NUM_THREADS"] = "1"

import sklearn.datasets  # noqa: E402, F401 - what each run would import
import torch._dynamo  # noqa: E402, F401

import train  # noqa: E402
from trainer import processes  # noqa: E402

# 22 steps in each epoch, because half of the data is kept for validation.
FAST = ("device=cpu", "data.valid=0.5", "model.width=8", "trainer.tensorboard=false")
FAST = (*FAST, "trainer.plots=false", "--epochs", "3")

COMPARABLE = ("optimizer.name=SGD", "optimizer.lr=0.1", "model.dropout=0.0")
TOLERANCE = 1e-4
"""By which weights differ when a batch is summed up in another order, for three epochs of COMPARABLE.
AdamW makes more of it: it divides by what is nearly nothing."""


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


class Runs:
    """Starts `train.py` with the arguments, in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0  # that a run takes, once known
        self.context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")

    def start(self, *arguments: str, **environment: str) -> BaseProcess:
        """A run of the small configuration."""
        process = self.context.Process(
            target=run_there, args=(self.folder, [*FAST, *arguments], environment)
        )
        process.start()
        return process

    def run(self, *arguments: str) -> Ended:
        process = self.start(*arguments)
        process.join(timeout=60)
        if process.exitcode is None:
            process.kill()
            pytest.fail("the run has not ended")
        return Ended(
            process.exitcode, *((self.folder / name).read_text() for name in ("out", "err"))
        )

    def done(self, *arguments: str) -> str:
        """The output of a run that must end well."""
        ended = self.run(*arguments)
        assert (ended.status, ended.err) == (0, "")
        return ended.out

    def refused(self, *arguments: str, status: int = 2) -> str:
        """The one sentence that a run must be refused with."""
        ended = self.run(*arguments)
        assert ended.status == status, ended.err
        (sentence,) = ended.err.splitlines()
        return sentence.removeprefix("train.py: ")

    def checkpoints(self, out: str = "runs/digits") -> list[str]:
        return sorted(path.name for path in (self.folder / out / "checkpoints").glob("step-*"))


def run_there(folder: Path, arguments: list[str], environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    processes.RANK, processes.WORLD = (
        int(os.environ.get(name, alone)) for name, alone in (("RANK", "0"), ("WORLD_SIZE", "1"))
    )
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # pytest has put others there
    status = train.main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    processes.leave(status)


def wait_for_checkpoint(
    runs: Runs, process: BaseProcess, *, other_than: Sequence[str] = (), out: str = "runs/digits"
) -> None:
    deadline = time.monotonic() + 60
    while process.is_alive() and not set(runs.checkpoints(out)) - set(other_than):
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.005)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Where a run was done that nobody interrupted; not to be changed."""
    runs = Runs(tmp_path_factory.mktemp("whole"))
    begun = time.monotonic()
    runs.done()
    runs.seconds = time.monotonic() - begun
    return runs


@pytest.fixture
def copied(whole: Runs, tmp_path: Path) -> Runs:
    """A copy of that, to be spoilt."""
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    return Runs(tmp_path)
