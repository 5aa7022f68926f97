"""Jobs that go on elsewhere: a trainer that resumes exactly, and how far it is."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from colabdev.adapters.job_store import FileJobStore
from colabdev.adapters.recovery_store import FileRecoveryStore
from colabdev.models import JobRecord
from tests.support.house import House
from tests.support.waiting import wait_until

SETTINGS = """
[checkpoints]
dir = "runs/checkpoints"
stores = ["local"]
resume = "--resume {path}"
"""

TRAINER = """
import hashlib, json, os, signal, sys, time

asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(True))
resumed = os.environ.get("COLABDEV_RESUME_FROM")
step = json.load(open(resumed + "/state.json"))["step"] if resumed else 0
print("attempt", os.environ["COLABDEV_ATTEMPT"], "from", step, *sys.argv[1:], flush=True)
os.makedirs("runs/checkpoints", exist_ok=True)
while not os.path.exists("enough"):
    step += 1
    print("step", step, flush=True)
    time.sleep(0.3)
    if "--when-asked" in sys.argv and not asked:
        continue
    asked.clear()
    content = json.dumps({"step": step}).encode()
    path = "runs/checkpoints/step-%06d" % step
    os.makedirs(path)
    open(path + "/state.json", "wb").write(content)
    entry = {"path": "state.json", "size": len(content)}
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    entry["md5"] = hashlib.md5(content).hexdigest()
    json.dump({"step": step, "files": [entry]}, open(path + "/MANIFEST.json", "w"))
print("done", step, flush=True)
"""


def settle(house: House, settings: str = SETTINGS) -> None:
    """Give the house's project the trainer."""
    (house.project / "train.py").write_text(TRAINER)
    (house.project / "colabdev.toml").write_text(settings)


def train(house: House, *options: str) -> str:
    """A training that is left alone, once its code and a checkpoint are safe; its id."""
    done = house.colabdev("run", "--detach", *options, "train.py")
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    wait_until(lambda: is_safe(house, job), timeout_s=60, message="something of it is safe")
    return job


def beside(house: House, job: str, name: str) -> Path:
    """One of the files that are kept of the job here."""
    return house.places.state_dir / "jobs" / job / name


def is_safe(house: House, job: str, *, attempt: int = 1) -> bool:
    """Whether the job would survive its machine now, with something of that attempt."""
    if not (beside(house, job, "safe.json").exists() and beside(house, job, "code.zip").exists()):
        return False
    newest: int = json.loads(beside(house, job, "safe.json").read_text())["attempt"]
    return newest >= attempt


def record(house: House, job: str) -> dict[str, Any]:
    """Its job.json."""
    document: dict[str, Any] = json.loads(beside(house, job, "job.json").read_text())
    return document


def standing(house: House, job: str) -> dict[str, Any]:
    """Its recovery.json, {} without one."""
    try:
        document: dict[str, Any] = json.loads(beside(house, job, "recovery.json").read_text())
    except FileNotFoundError:
        return {}
    return document


def log_of(house: House, job: str, attempt: int) -> str:
    """What is here of that attempt's log."""
    path = beside(house, job, "log" if attempt == 1 else f"log.{attempt}")
    return path.read_text() if path.exists() else ""


def kill_at(house: House, point: str, job: str) -> None:
    """kill -9 of what goes on with the job there, once: the keeper that it started, and what that types,
    live."""
    armed = house.home / "armed"
    armed.touch()
    words = ("run", "--continue", job, "--agreed", "--detach")
    killed = house.colabdev(*words, env={"COLABDEV_CRASH_AT": f"{point}@{armed}"})
    assert killed.returncode == 137, f"{point} was not reached: {killed.stderr}"


def allow_many(house: House, job: str) -> None:
    """More machines than a test needs, for what was agreed to."""

    def allowed(known: JobRecord) -> JobRecord:
        assert known.continues is not None
        return replace(known, continues=replace(known.continues, times=99))

    assert FileJobStore(house.places.state_dir).update(job, allowed)


def forget_the_hour(house: House, job: str) -> None:
    """As if all that had been long ago."""
    plans = FileRecoveryStore(house.places.state_dir)
    going_on = plans.continuation(job)
    tries = tuple(replace(one, time=one.time - timedelta(hours=2)) for one in going_on.tries)
    plans.save_continuation(job, replace(going_on, tries=tries))
