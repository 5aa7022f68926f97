"""Runs for the tests: each in a process of its own, which has PyTorch imported already."""

import multiprocessing
import os
import shutil
import sys
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))
os.environ["PYTHONPATH"] = str(PROJECT)  # for the server that the runs are forked from
# Several threads wait for each other in a busy loop; these networks are too small to gain from them.
os.environ["OMP_NUM_THREADS"] = "1"

import train  # noqa: E402

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
        # A server that imported everything, and forks for each run.
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["train", "sklearn.datasets"])

    def start(self, *arguments: str, beside: bool = True) -> BaseProcess:
        """A run of the small configuration; its checkpoints are written by a process `beside` it."""
        process = self.context.Process(
            target=run_there, args=(self.folder, [*FAST, *arguments], beside)
        )
        process.start()
        return process

    def run(self, *arguments: str, beside: bool = False) -> Ended:
        process = self.start(*arguments, beside=beside)
        process.join(timeout=100)
        assert process.exitcode is not None, "the run has not ended"
        return Ended(
            process.exitcode, *((self.folder / name).read_text() for name in ("out", "err"))
        )

    def done(self, *arguments: str, beside: bool = False) -> str:
        """The output of a run that must end well."""
        ended = self.run(*arguments, beside=beside)
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


def run_there(folder: Path, arguments: list[str], beside: bool) -> None:
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if not beside and hasattr(os, "memfd_create"):
        del os.memfd_create  # as on macOS and Windows
    status = train.main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(status)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Where a run was done that nobody interrupted; not to be changed."""
    runs = Runs(tmp_path_factory.mktemp("whole"))
    runs.done()
    return runs


@pytest.fixture
def copied(whole: Runs, tmp_path: Path) -> Runs:
    """A copy of that, to be spoilt."""
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    return Runs(tmp_path)
