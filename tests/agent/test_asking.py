"""Jobs that are asked to save before their machine ends, and what becomes of that."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_archive import build_agent
from tests.agent.test_lease import PATIENT, Rented, rented
from tests.support.carrying import QUICK, Carried
from tests.support.waiting import wait_until

__all__ = ["rented"]  # A fixture.

SAVES = """
import pathlib, signal, time
place = pathlib.Path("runs/a/checkpoints")
place.mkdir(parents=True, exist_ok=True)
asked = pathlib.Path("save.please")
signals = []
signal.signal(signal.SIGUSR1, lambda *_: signals.append(1))
pathlib.Path("ready").touch()
step = 10
while True:
    if signals or asked.exists():
        asked.unlink(missing_ok=True)
        signals.clear()
        step += 10
        (place / f"step-{step}.pt").write_bytes(b"weights")
    time.sleep(0.02)
"""
"""A trainer that saves when it is asked, and goes on."""


@pytest.fixture
def carried(tmp_path: Path) -> Iterator[Carried]:
    carried = Carried(tmp_path, build_agent(), Path(sys.executable))
    yield carried
    carried.close()


def train(carried: Carried, ask: str | None, command: str = "python3 train.py") -> None:
    """Start the job; it runs and can be asked."""
    carried.ask = ask
    (carried.workdir / "train.py").write_text(SAVES)
    carried.start(command)
    wait_until((carried.workdir / "ready").exists, message="it does not start")


def save(carried: Carried, timeout_s: float = 20) -> Mapping[str, Any]:
    """Ask all jobs to save; what came of the one."""
    (told,) = carried.stream("checkpoint.save", timeout_s=timeout_s)[-1]["jobs"]
    return dict(told)


def state(carried: Carried) -> str:
    return str(carried.talk_once("job.status", id=carried.job)["status"]["state"])


@pytest.mark.parametrize(
    ("ask", "command"),
    [
        # The shell does not catch it; Python, which it starts, does.
        ("USR1", "python3 train.py; true"),
        ("file:save.please", "exec python3 train.py"),
    ],
)
def test_job_that_is_asked_saves_and_goes_on(carried: Carried, ask: str, command: str) -> None:
    train(carried, ask, command)
    told = save(carried)
    assert (told["saved"], told["is_safe"], told["problem"]) == (True, True, "")
    assert told["row"]["step"] == 20
    again = save(carried)
    assert again["row"]["step"] == 20, "who asks so soon after another means the same one"
    lead = carried.talk_once("checkpoint.lead")
    assert lead["jobs"] == [carried.job]
    assert 120 <= lead["lead_s"] <= 180
    assert state(carried) == "running"


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        ("USR1", "no process of it catches SIGUSR1 yet"),
        pytest.param(
            None,
            "nothing says how it is asked: set [checkpoints] ask in colabdev.toml",
            marks=pytest.mark.long,
        ),
        pytest.param("file:train.py/x", "cannot make train.py/x: ", marks=pytest.mark.long),
    ],
)
def test_job_that_cannot_be_asked_is_left_alone_and_what_it_saved_is_made_safe(
    carried: Carried, ask: str | None, why: str
) -> None:
    train(carried, ask, "touch ready; exec sleep 1000")
    carried.save(7)
    told = save(carried)
    assert told["problem"].startswith(why)
    assert (told["row"]["step"], told["is_safe"], told["saved"]) == (7, True, False)
    assert state(carried) == "running"


def test_job_that_does_not_save_in_time_is_told_of(carried: Carried) -> None:
    train(carried, "file:never", "touch ready; exec sleep 1000")
    began = time.monotonic()
    told = save(carried, timeout_s=1.5)
    assert time.monotonic() - began < 10
    assert told["problem"] == "it has saved nothing since it was asked"


@pytest.mark.parametrize("bound", ["for_s", pytest.param("limit_s", marks=pytest.mark.long)])
def test_machine_has_its_jobs_save_before_it_ends_with_nobody_there(
    rented: Rented, bound: str
) -> None:
    rented.watch(PATIENT)
    workdir = rented.place.workdir
    workdir.mkdir(parents=True)
    (workdir / "train.py").write_text(SAVES)
    wanted = {
        "dirs": ["runs/*/checkpoints"],
        "stores": ["local"],
        "project": "digits",
        "drive_dir": str(rented.place.drive),
        "timing": QUICK,
        "ask": "USR1",
    }
    spec = {**rented.bench.shell("exec python3 train.py"), "workdir": str(workdir)}
    talk = rented.bench.talk()
    talk.request("job.start", spec={**spec, "checkpoints": wanted})
    wait_until((workdir / "ready").exists, message="it does not start")
    talk.request("lease.keep", **{**rented.wish, bound: 3600})
    assert not list(workdir.glob("runs/a/checkpoints/*")), "an hour before nobody asks"
    talk.request("lease.keep", **{**rented.wish, bound: 110})

    def told() -> Mapping[str, Any]:
        (job,) = talk.request("checkpoint.list")["jobs"]
        return dict(job["safe"] or {})

    assert wait_until(told, timeout_s=30, message=f"nothing is safe: {rented.said()}")["step"] == 20
    assert rented.said()["state"] == "waiting"
