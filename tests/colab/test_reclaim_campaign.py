"""Colab takes one runtime after another under a job, at random, and it ends as if none had gone.

Seeded. What a true log must be is known without looking: the trainer's output follows from the step that
it begins after.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.support.colab import Colab
from tests.support.colab_continuing import LIMITED, NEXT_RUNTIME_S, there
from tests.support.colab_user import ColabHouse
from tests.support.jobs import Running, job_of
from tests.support.recovering import beside, log_of, record, standing
from tests.support.recovery.project import Training
from tests.support.recovery.train import SAVE_EVERY, trained
from tests.support.waiting import wait_until

STEPS = 5000
ENOUGH = "/tmp/enough"
LIVES, DEATHS = 4, 3
QUIET, CUT, KEEPER, AGAIN = "nothing", "the network", "the keeper", "the next runtime, too"
TROUBLES = (QUIET, CUT, KEEPER, AGAIN)
"""What else goes with a runtime."""


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(LIVES))
def test_runtimes_are_reclaimed_and_the_job_ends_as_if_none_had_been(
    house: ColabHouse, colab: Colab, tmp_path: Path, seed: int
) -> None:
    house.log_in_by_gcloud()
    Training(house.project, tmp_path).write_code()
    settings = LIMITED.replace("runs/checkpoints", "runs/*/checkpoints")
    (house.project / "colabdev.toml").write_text(settings)
    dice = Random(seed)
    read = tmp_path / "read"
    run = ("run", "--yes", "--down", "train.py", str(STEPS), "0.02", ENOUGH)
    with read.open("wb") as out, Running(house, *run, stdout=out.fileno()) as running:
        job = job_of(running.read_complaints("job "))
        for trouble in dice.sample(TROUBLES, DEATHS):
            die(house, colab, job, trouble, dice)
        there(house, f"touch {ENOUGH}")
        code, _, complaints = running.finish(180)
    assert code == 0, complaints
    judge(house, job, read.read_text())
    house.assert_nothing_is_billed()


def die(house: ColabHouse, colab: Colab, job: str, trouble: str, dice: Random) -> None:
    """At some moment after something of the newest attempt is safe; returns when the next one runs,
    from no earlier than that."""
    attempt = record(house, job)["attempt"]
    wait_until(
        lambda: safe(house, job)[0] == attempt and beside(house, job, "code.zip").exists(),
        timeout_s=60,
        message=f"nothing of attempt {attempt} is safe",
    )
    time.sleep(dice.uniform(0, 3))
    known = safe(house, job)
    if trouble == KEEPER:
        house.end_keeper("colab")
    if trouble == CUT:
        colab.fault("backend_status", 500, times=dice.randrange(2, 8))
    (taken,) = endpoints(colab)
    colab.do("reclaim", taken)
    if trouble == KEEPER:
        house.colabdev("ps")
    if trouble == AGAIN:
        wait_until(lambda: endpoints(colab), timeout_s=60, message="there is no next runtime")
        time.sleep(dice.uniform(0, 1))
        colab.do("reclaim", endpoints(colab)[0])
    log = wait_until(
        lambda: log_of_newer(house, job, attempt),
        timeout_s=NEXT_RUNTIME_S,
        message=f"it does not go on after {trouble} went: {standing(house, job)}",
    )
    assert begun_after(log) >= known[1], "a safe step was lost"


def log_of_newer(house: ColabHouse, job: str, attempt: int) -> str:
    """What an attempt after that one said, once it has said something."""
    number = newest(house, job)
    log = log_of(house, job, number)
    return log if number > attempt and "\n" in log else ""


def endpoints(colab: Colab) -> list[str]:
    """Of all that is allocated, which is never more than one runtime."""
    found = [one["endpoint"] for one in colab.describe()["runtimes"]]
    assert len(found) <= 1
    return found


def newest(house: ColabHouse, job: str) -> int:
    number: int = record(house, job)["attempt"]
    return number


def safe(house: ColabHouse, job: str) -> tuple[int, int]:
    """The attempt and step of the newest safe checkpoint that anybody here heard of."""
    path = beside(house, job, "safe.json")
    if not path.exists():
        return 0, 0
    document = json.loads(path.read_text())
    return document["attempt"], document["step"]


def begun_after(log: str) -> int:
    """The step."""
    return int(log.split(maxsplit=4)[3])


def judge(house: ColabHouse, job: str, read: str) -> None:
    """One log, each attempt's a true prefix, the last one's whole; and the weights are those of a run
    that nothing interrupted."""
    logs = [text for n in range(1, newest(house, job) + 1) if (text := log_of(house, job, n))]
    assert len(logs) == DEATHS + 1
    assert read == "".join(logs)
    for log in logs:
        assert "".join(told(begun_after(log))).startswith(log)
    assert logs[-1].endswith(f"\nends with {trained(STEPS)}\n")


def told(begins: int) -> Iterator[str]:
    """All that the trainer prints that begins after that step."""
    yield f"begins after step {begins}\n"
    for step in range(begins + 1, STEPS + 1):
        yield f"step {step}\n"
        if step % SAVE_EVERY == 0:
            yield f"saved {step}\n"
    yield f"ends with {trained(STEPS)}\n"
