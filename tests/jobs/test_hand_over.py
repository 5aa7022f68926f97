"""A job whose machine dies while somebody follows it, as they meet it: one command, one log."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tests.support.house import House
from tests.support.jobs import Running, job_of, listed, workdir
from tests.support.recovering import is_safe, settle
from tests.support.waiting import wait_until

SECRET = "planted-secret-of-hf"


def test_follower_stays_with_a_job_from_machine_to_machine(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.connect()
        settle(house)
        env = {**house.environment, "HF_TOKEN": SECRET}
        with Running(house, "run", "--secret", "HF_TOKEN", "train.py", env=env) as running:
            said = running.read_complaints("  job ")
            job = job_of(said)
            assert "  if its machine dies it continues on a new one, up to 3 times\n" in said
            assert "keeper of it runs, which alone has HF_TOKEN\n" in said
            wait_until(lambda: is_safe(house, job), timeout_s=60, message="something is safe")
            assert house.colabdev("local", "kill", "local").returncode == 0
            said = running.read_complaints("starting attempt 2 from step ")
            seen = re.search(r"  attempt 1 ended unseen after byte (\d+)\n", said)
            assert seen is not None, said
            wait_until(
                lambda: '"attempt": 2' in ps(house) and '"running"' in ps(house),
                timeout_s=60,
                message="it runs again",
            )
            (workdir(house) / "enough").touch()
            status, out, err = running.finish(60)
        assert status == 0, err
        first, second = out[: int(seen[1])].decode(), out[int(seen[1]) :].decode()
        assert first.startswith("attempt 1 from 0\nstep 1\n")
        begun = re.match(r"attempt 2 from (\d+) --resume \S+\nstep (\d+)\n", second)
        assert begun is not None, second
        assert f"step {begun[1]}\n" in first, "what was safe had been told"
        assert int(begun[2]) == int(begun[1]) + 1
        assert second.splitlines()[-1].startswith("done ")
        whole = house.colabdev("logs", job)
        assert whole.stdout.encode() == out
        assert whole.stderr == f"  attempt 1 ended unseen after byte {seen[1]}\n"
        assert house.colabdev("logs", "--attempt", "2", job).stdout == second
        for file in house.places.state_dir.rglob("*"):
            if file.is_file() and not file.is_symlink():
                assert SECRET.encode() not in file.read_bytes(), file


def test_another_computer_goes_on_with_a_job_by_what_drive_knows(tmp_path: Path) -> None:
    with House(tmp_path / "mine") as mine, House(tmp_path / "other") as other:
        mine.connect()
        settle(mine)
        env = {"SEED": "3", "HF_TOKEN": SECRET}
        options = ("--no-recover", "--env", "SEED=3", "--secret", "HF_TOKEN")
        done = mine.colabdev("run", "--detach", *options, "train.py", env=env)
        job = done.stdout.strip()
        drive = mine.places.local_dir / "drive"
        wait_until(
            lambda: list(drive.rglob(f"runs/{job}/confirmed/*.json")),
            timeout_s=60,
            message="a checkpoint is proved on Drive",
        )
        assert mine.colabdev("local", "kill", "local").returncode == 0
        done = mine.colabdev("run", "--continue", job, "--detach")
        assert done.returncode == 125
        assert f"{job} needs HF_TOKEN, and the keeper that had it is gone" in done.stderr
        shutil.copytree(drive, other.places.local_dir / "drive")
        settle(other)
        slip = other.colabdev("run", "--continue", "Train.py", "--yes", "--provider", "local")
        assert "no job is called 'Train.py'" in slip.stderr
        assert other.store.names() == [], "no machine is started for what is no job"
        typed = ("run", "--continue", job[:-2], "--detach", "--provider", "local", "--yes")
        done = other.colabdev(*typed, env={"HF_TOKEN": SECRET})
        assert done.returncode == 125
        assert f"{job} was started with SEED, whose values are on no disk" in done.stderr
        assert "local stays up; colabdev down local gives it back" in done.stderr
        assert listed(other) == [], "nothing is written down of what was not begun"
        (armed := tmp_path / "armed").touch()
        killed = {"COLABDEV_CRASH_AT": f"recovery.machine@{armed}"}
        for code, env in ((137, killed), (0, {}), (0, {})):  # The same line goes on with it.
            done = other.colabdev(*typed, "--env", "SEED=4", env={"HF_TOKEN": SECRET, **env})
            assert done.returncode == code, done.stderr
        assert f"{job} is at attempt 2 on local\n" in done.stderr
        (workdir(other) / "enough").touch()
        done = other.colabdev("logs", "-f", job)
        seen = re.fullmatch(r"  attempt 1 ended unseen after byte (\d+)\n", done.stderr)
        assert seen is not None, done.stderr
        # As much of attempt 1 as Drive had of it.
        second = done.stdout[int(seen[1]) :]
        assert re.match(r"(?s)attempt 2 from [1-9]\d* --resume .*\ndone \d+\n$", second), done
        done = other.colabdev("run", "--continue", job, "--env", "SEED=5")
        assert done.returncode == 125
        assert "--continue goes on with a job as it was started" in done.stderr


def ps(house: House) -> str:
    return json.dumps(json.loads(house.colabdev("ps", "--json").stdout))
