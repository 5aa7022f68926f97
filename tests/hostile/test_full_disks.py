"""Disks that fill up under a run: the job's own status all the same, or one sentence and no job."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disks import fill, tiny_disk
from tests.support.house import House
from tests.support.jobs import Running, allow, listed, waiting_for, workdir
from tests.support.waiting import wait_until


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


def test_full_disk_here_does_not_cost_the_jobs_log_or_status(house: House) -> None:
    house.connect()
    copies = house.places.state_dir / "jobs"
    copies.mkdir(mode=0o700)
    line = f"echo begun; {waiting_for('gate')}; head -c 3000000 /dev/zero; exit 7"
    with tiny_disk(copies, size_kb=256):
        with Running(house, "run", "sh", "-c", line) as running:
            assert running.read(6) == b"begun\n"
            fill(copies / "ballast")
            allow(house, "gate")
            status, out, err = running.finish()
        (copies / "ballast").unlink()
        assert (status, len(out)) == (7, 3_000_000), err
        assert "No space left on device; the log goes on without a copy here" in err
        assert "Traceback" not in err
        ended = ("failed", 7)
        wait_until(
            lambda: [(job["state"], job["exit_code"]) for job in listed(house)] == [ended],
            message="the runtime is asked how it ended",
        )


@pytest.mark.parametrize(
    "rooms_kb",
    [
        (0, 8, 16, 24, 128),
        pytest.param((0, 4, 8, 12, 16, 20, 24, 28, 32, 128), marks=pytest.mark.long),
    ],
    ids=len,
)
def test_full_disk_on_the_runtime_starts_nothing_and_leaves_no_job(
    house: House, rooms_kb: tuple[int, ...]
) -> None:
    """With a little more room each time, so that each step in turn is the one that fails."""
    house.connect()
    (house.project / "train.py").write_text("print('trained')")
    assert house.colabdev("sync").returncode == 0
    jobs = workdir(house).parent.parent / "root" / ".colabdev"
    shutil.rmtree(jobs, ignore_errors=True)
    jobs.mkdir()
    outcomes = set()
    with tiny_disk(jobs, size_kb=256):
        for free_kb in rooms_kb:
            ballast = jobs / "ballast"
            fill(ballast)
            with ballast.open("r+b") as file:
                file.truncate(ballast.stat().st_size - free_kb * 1024)
            done = house.colabdev("run", "train.py")
            outcomes.add(done.returncode)
            if done.returncode == 125:
                assert "No space left on device" in done.stderr, (free_kb, done.stderr)
                assert "Traceback" not in done.stderr
                assert "next: colabdev ssh -- df -h" in done.stderr
            else:
                assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
            ballast.unlink()
            wait_until(
                lambda: all(job["state"] == "succeeded" for job in listed(house)),
                message=f"no job is left half started with {free_kb} kB",
            )
            shutil.rmtree(jobs / "jobs", ignore_errors=True)
        assert outcomes == {0, 125}
        assert house.colabdev("run", "train.py").returncode == 0
    house.end_keeper()
