"""A job whose machine dies while somebody follows it, as they meet it: one command, one log."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support.house import House
from tests.support.jobs import Running, job_of, workdir
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


def ps(house: House) -> str:
    return json.dumps(json.loads(house.colabdev("ps", "--json").stdout))
