"""Two processes train what one trains, over gloo, and go on after a kill."""

import subprocess
import sys

import pytest
from torch.distributed import TCPStore

import checkpoint
import config
import train
from compare import differences
from conftest import COMPARABLE, FAST, PROJECT, TOLERANCE, Runs, wait_for_checkpoint

SHORT = [*COMPARABLE, "--epochs", "2", "trainer.save_every=7"]


class Pair:
    """Two processes as torchrun starts them, which find each other through a store of their own."""

    def __init__(self, runs: Runs, *arguments: str) -> None:
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        place = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "WORLD_SIZE": "2",
        }
        self.processes = [runs.start(*SHORT, *arguments, RANK=rank, **place) for rank in "01"]

    def done(self) -> None:
        for process in self.processes:
            process.join(timeout=60)
        statuses = [process.exitcode for process in self.processes]
        self.kill()
        assert statuses == [0, 0]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


def test_two_processes_agree_with_one_and_resume_exactly(runs: Runs) -> None:
    runs.done(*SHORT, "--out", "runs/one")
    Pair(runs, "--out", "runs/two").done()
    one, two = (
        checkpoint.resume(runs.folder / "runs" / name / "checkpoints") for name in ("one", "two")
    )
    weights = zip(one["model"].values(), two["model"].values(), strict=True)
    assert max((a - b).abs().max().item() for a, b in weights) < TOLERANCE
    assert len(two["processes"]) == 2

    killed = Pair(runs, "--out", "runs/killed")
    wait_for_checkpoint(runs, killed.processes[0], out="runs/killed")
    killed.kill()
    Pair(runs, "--out", "runs/killed", "--resume", "auto").done()
    assert differences(runs.folder / "runs/two", runs.folder / "runs/killed") == []


@pytest.mark.long
def test_torchrun_starts_them_the_same(runs: Runs) -> None:
    Pair(runs, "--out", "runs/two").done()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    train = [PROJECT / "train.py", *FAST, *SHORT, "--out", "runs/started"]
    subprocess.run([*torchrun, *train], cwd=runs.folder, check=True, timeout=300)
    assert differences(runs.folder / "runs/two", runs.folder / "runs/started") == []
    refused = subprocess.run(
        [*torchrun, PROJECT / "train.py", "no.such=1"],
        cwd=runs.folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert refused.stderr.count("train.py: unknown key no") == 1, refused.stderr


def test_error_that_all_find_is_told_by_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    for rank, sentences in ((1, 0), (0, 1)):
        monkeypatch.setattr(config.processes, "RANK", rank)
        assert train.main(["no.such=1"]) == 2
        assert capsys.readouterr().err.count("train.py: unknown key no") == sentences
        assert len(waited) == 1, "only the other one gives the first time to tell it"


def test_batch_that_cannot_be_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.processes, "WORLD", 3)
    with pytest.raises(
        config.ConfigError, match=r"batch_size 32 cannot be split among 3 processes"
    ):
        config.read(PROJECT / "config.toml")
