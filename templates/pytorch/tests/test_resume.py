"""A run that was interrupted, anywhere and by anything, ends as one that was not: bit for bit."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from compare import differences
from conftest import Runs, wait_for_checkpoint

RUN = Path("runs", "digits")


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
def test_killed_anywhere_and_resumed_equals_uninterrupted(
    whole: Runs, runs: Runs, kills: int
) -> None:
    options = ["trainer.save_every=7", "data.workers=1", "--resume", "auto"]
    moments = random.Random(0)
    killed = resumed = 0
    while killed < kills:
        process = runs.start(*options)
        # One after it has got on a little, the next at any time, such as before it began.
        if killed % 2 == 0:
            wait_for_checkpoint(runs, process, other_than=runs.checkpoints())
        time.sleep(moments.uniform(0, 0.05 if killed % 2 == 0 else whole.seconds))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        resumed += "resumed " in (runs.folder / "out").read_text()
        if process.exitcode == 0:  # It was faster; so to the next.
            assert differences(whole.folder / RUN, runs.folder / RUN) == []
            shutil.rmtree(runs.folder / RUN)

    runs.done(*options)

    assert differences(whole.folder / RUN, runs.folder / RUN) == []
    assert resumed > 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_within_an_epoch_saves_and_goes_on(
    whole: Runs, runs: Runs, number: signal.Signals, status: int
) -> None:
    process = runs.start("trainer.save_every=1")
    wait_for_checkpoint(runs, process)
    os.kill(process.pid, number)
    process.join(timeout=60)
    assert process.exitcode == status
    stopped_after = int(runs.checkpoints()[-1].removeprefix("step-"))
    assert f"stopped after step {stopped_after}; " in (runs.folder / "err").read_text()
    assert stopped_after < 66

    assert f"{stopped_after} steps are done" in runs.done("--resume", "auto")

    assert differences(whole.folder / RUN, runs.folder / RUN) == []


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has no SIGUSR1")
def test_asked_for_a_checkpoint_saves_and_goes_on(runs: Runs) -> None:
    process = runs.start("--epochs", "200", "trainer.keep=1000")
    wait_for_checkpoint(runs, process)
    os.kill(process.pid, signal.SIGUSR1)
    ends_of_epochs = [f"step-{22 * epoch:06d}" for epoch in range(200)]
    wait_for_checkpoint(runs, process, other_than=ends_of_epochs)
    was_going_on = process.is_alive()
    process.kill()
    process.join()
    (asked,) = set(runs.checkpoints()) - set(ends_of_epochs)
    manifest = (runs.folder / RUN / "checkpoints" / asked / "MANIFEST.json").read_bytes()
    assert was_going_on
    assert json.loads(manifest)["total_steps"] == 200 * 22


def test_number_of_workers_changes_nothing(whole: Runs, runs: Runs) -> None:
    runs.done("data.workers=2")
    assert differences(whole.folder / RUN, runs.folder / RUN) == []


def test_another_seed_changes_everything(whole: Runs, runs: Runs) -> None:
    """The comparison of the other tests is worth something."""
    runs.done("--seed", "1")
    found = differences(whole.folder / RUN, runs.folder / RUN)
    assert {".model.head.weight", ".processes.0.random.torch", "metrics.jsonl"} <= set(found)


def test_damaged_checkpoint_falls_back_to_the_one_before(whole: Runs, copied: Runs) -> None:
    newest = copied.folder / RUN / "checkpoints" / "step-000066"
    state = bytearray((newest / "state.pt").read_bytes())
    state[len(state) // 2] ^= 1
    (newest / "state.pt").write_bytes(state)

    ended = copied.run("--resume", "auto")

    assert (ended.status, ended.err.count("\n")) == (0, 1)
    assert ended.err.endswith("step-000066: state.pt is not what MANIFEST.json says\n")
    assert "step-000044: 44 steps are done" in ended.out
    assert differences(whole.folder / RUN, copied.folder / RUN) == []


def test_longer_run_goes_on_where_the_shorter_ended(copied: Runs) -> None:
    copied.done("--resume", "auto", "--epochs", "4")
    assert copied.checkpoints()[-1] == "step-000088"


def test_fresh_machine_needs_only_the_newest_checkpoint(whole: Runs, runs: Runs) -> None:
    newest = RUN / "checkpoints" / "step-000044"
    shutil.copytree(whole.folder / newest, runs.folder / newest)
    runs.done("--resume", str(newest / "state.pt"))  # As the path is that somebody found.
    assert differences(whole.folder / RUN, runs.folder / RUN) == []


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ("--resume nowhere", 1, "cannot use nowhere: there is no such checkpoint"),
        ("--resume runs", 1, "cannot use runs: it has no MANIFEST.json"),
        ("--resume err", 1, "cannot use err: a checkpoint is a directory with a MANIFEST.json"),
        ("--resume auto --seed 1", 2, "step-000066: its run had seed = 0"),
        ("--resume auto optimizer.lr=1", 2, "step-000066: its run had optimizer.lr = 0.003"),
        ("--resume auto --epochs 2", 2, "step-000066: its run is beyond 2 epochs already"),
        ("", 2, "step-000066 is of an earlier run: add --resume auto, or choose another --out"),
    ],
)
def test_resume_that_cannot_be_is_refused(
    copied: Runs, arguments: str, status: int, sentence: str
) -> None:
    before = copied.checkpoints()
    assert sentence in copied.refused(*arguments.split(), status=status)
    assert copied.checkpoints() == before
