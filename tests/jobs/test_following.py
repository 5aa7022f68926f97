"""Where `logs` begins, what comes home by itself, and how jobs are meant by their names."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import House
from tests.support.jobs import (
    Running,
    allow,
    job_directory,
    kill,
    listed,
    run_bytes,
    state_of,
    waiting_for,
)
from tests.support.waiting import wait_until

COUNT = "i=0; while [ $i -lt {}  ]; do echo line $i; i=$((i+1)); done"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One computer with one runtime for all tests here; each has jobs of its own name."""
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        yield house


def started(house: House, name: str, line: str) -> str:
    done = house.colabdev("run", "--detach", "--name", name, "sh", "-c", line)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def copy(house: House, job_id: str, name: str) -> Path:
    return house.places.state_dir / "jobs" / job_id / name


def is_home(house: House, job_id: str) -> bool:
    return copy(house, job_id, "status.json").exists()


def job_json(house: House, job_id: str) -> dict[str, Any]:
    return next(job for job in listed(house) if job["id"] == job_id)


# --- what comes home -----------------------------------------------------------------------------


def test_detached_job_comes_home_as_it_runs_and_at_its_end(house: House) -> None:
    job = started(house, "alone", f"echo begun; {waiting_for('alone')}; echo done; exit 3")
    log = copy(house, job, "log")
    wait_until(lambda: log.exists() and log.read_bytes() == b"begun\n", message="its first line")
    allow(house, "alone")
    wait_until(lambda: is_home(house, job), message="its end")
    assert log.read_bytes() == b"begun\ndone\n"
    assert json.loads(copy(house, job, "status.json").read_text())["exit_code"] == 3
    events = copy(house, job, "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in events] == ["started", "ended"]
    assert json.loads(copy(house, job, "job.json").read_text())["state"] == "failed"


def test_running_log_is_at_most_two_seconds_behind_also_of_the_second_job(house: House) -> None:
    first = started(house, "lag-a", waiting_for("lag"))
    second = started(house, "lag-b", f"echo now; {waiting_for('lag')}")
    begun = time.monotonic()
    log = copy(house, second, "log")
    wait_until(lambda: log.exists() and log.read_bytes() == b"now\n", message="its line is here")
    assert time.monotonic() - begun < 3.5, "two seconds, and a loaded machine"
    allow(house, "lag")
    wait_until(lambda: is_home(house, first) and is_home(house, second), message="they end")


def test_job_comes_home_although_the_keeper_was_killed(house: House) -> None:
    job = started(house, "killed", f"echo a; {waiting_for('killed')}; echo b")
    kill(house.keeper_pid())
    allow(house, "killed")
    house.keeper()
    wait_until(lambda: is_home(house, job), timeout_s=20, message="another keeper brings it")
    assert copy(house, job, "log").read_bytes() == b"a\nb\n"


def test_logs_and_ps_need_no_machine_once_a_job_is_home(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.connect()
        job = started(house, "gone", COUNT.format(20) + "; exit 7")
        wait_until(lambda: is_home(house, job), message="it is home")
        assert house.colabdev("local", "kill", "local").returncode == 0
        assert house.colabdev("logs", "--tail", "2", "gone").stdout == "line 18\nline 19\n"
        assert house.colabdev("logs", "--since", "1h", "gone").stdout.startswith("line 0\n")
        wait_until(
            lambda: house.record().keeper is None, message="the keeper knows that it is lost"
        )
        told = job_json(house, job)
        assert (told["state"], told["exit_code"], told["current"]) == ("failed", 7, True)


def test_old_jobs_go_there_and_here_but_not_the_last_of_a_name(house: House) -> None:
    jobs = [started(house, "prune", "true") for _ in range(2)]
    other = started(house, "other", "true")
    wait_until(lambda: all(is_home(house, job) for job in (*jobs, other)), message="all are home")
    for job in (jobs[0], other):
        status = job_directory(house, job) / "status.json"
        told = json.loads(status.read_text())
        status.write_text(json.dumps({**told, "ended": told["ended"] - 40 * 86400}))
    last = started(house, "prune", "true")
    wait_until(lambda: not copy(house, jobs[0], "job.json").exists(), message="the old one is gone")
    assert not job_directory(house, jobs[0]).exists()
    ids = {job["id"] for job in listed(house)}
    assert jobs[0] not in ids
    assert {jobs[1], other, last} <= ids


# --- where a log begins --------------------------------------------------------------------------


def test_tail_of_a_running_job_then_follows(house: House) -> None:
    job = started(house, "tail", f"{COUNT.format(5000)}; {waiting_for('tail')}; echo last")
    with (
        Running(house, "logs", "-f", "--tail", "3", job) as one,
        Running(house, "logs", "-f", "--tail", "1", "--json", job) as two,
    ):
        assert one.read(30) == b"line 4997\nline 4998\nline 4999\n"
        first = two.read(1)
        allow(house, "tail")
        assert one.finish()[:2] == (0, b"last\n")
        status, rest, _ = two.finish()
    rows = [json.loads(line) for line in (first + rest).splitlines()]
    assert status == 0
    assert [row["text"] for row in rows] == ["line 4999\n", "last\n"]
    log = (job_directory(house, job) / "log").read_bytes()
    assert [log[row["offset"] :][:4] for row in rows] == [b"line", b"last"]
    assert house.colabdev("logs", "--tail", "0", job).stdout == ""


def test_since_begins_at_the_last_mark_before(house: House) -> None:
    job = started(house, "since", f"echo old; {waiting_for('since')}; echo new")
    events = job_directory(house, job) / "events.jsonl"
    log = job_directory(house, job) / "log"
    wait_until(log.read_bytes, message="it printed")
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    rows[0]["time"] -= 3600
    rows.append({"time": time.time() - 1800, "offset": 4, "event": "mark"})
    events.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert house.colabdev("logs", "--since", "10m", job).stdout == ""
    assert house.colabdev("logs", "--since", "45m", job).stdout == "old\n"
    allow(house, "since")
    wait_until(lambda: is_home(house, job), message="it is home")
    assert house.colabdev("logs", "--since", "10m", job).stdout == "new\n"
    done = house.colabdev("logs", "--since", "yesterday", job)
    assert (done.returncode, "next: --since 10m" in done.stderr) == (2, True), done.stderr


def test_metrics_are_shown_while_it_runs_and_afterwards(house: House) -> None:
    job = started(house, "metrics", f"{waiting_for('metrics')}")
    wait_until(lambda: job_json(house, job)["metrics"], timeout_s=20, message="they are sampled")
    row = job_json(house, job)["metrics"]
    assert row["memory_bytes"] > 0
    assert "cpu" in house.colabdev("ps").stdout
    shown = house.colabdev("logs", "--metrics", "--json", job).stdout
    assert json.loads(shown.splitlines()[0])["time"] <= row["time"]
    allow(house, "metrics")
    wait_until(lambda: is_home(house, job), message="it is home")
    assert "memory" in house.colabdev("logs", "--metrics", job).stdout
    assert house.colabdev("logs", "--metrics", "-f", job).returncode == 2


# --- how a job ended, and which is meant ---------------------------------------------------------


def test_end_says_what_happened_and_what_to_type_next(house: House) -> None:
    status, _, err = run_bytes(house, "run", "--name", "bad", "sh", "-c", "exit 7")
    job = next(job["id"] for job in listed(house) if job["name"] == "bad")
    assert status == 7
    assert err.splitlines()[-2:] == [
        f"{job} failed, exit status 7",
        f"  next: colabdev logs --tail 50 {job}",
    ]
    status, _, err = run_bytes(house, "run", "--name", "sig", "sh", "-c", "kill -SEGV $$")
    assert status == 139
    assert "failed, killed by signal 11 (SIGSEGV)" in err


def test_bare_name_means_the_job_that_runs_else_the_newest(house: House) -> None:
    old = started(house, "same", f"echo old; {waiting_for('same')}")
    new = started(house, "same", "echo new")
    wait_until(lambda: is_home(house, new), message="the newer has ended")
    assert house.colabdev("logs", "same").stdout == "old\n"
    other = started(house, "same", f"echo other; {waiting_for('same')}")
    done = house.colabdev("stop", "same")
    assert done.returncode == 2
    assert old in done.stderr
    assert other in done.stderr
    assert new not in done.stderr
    allow(house, "same")
    wait_until(lambda: is_home(house, old) and is_home(house, other), message="all have ended")
    assert house.colabdev("logs", "same").stdout == "other\n"
    assert house.colabdev("stop", "same").stdout == f"{other} has ended already: succeeded\n"


def test_ps_does_not_claim_to_know_a_runtime_whose_state_is_unreadable(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.connect()
        job = started(house, "dark", "exec sleep 60")
        assert state_of(house, job) == "running"
        record = house.places.state_dir / "runtimes" / "local.json"
        whole = record.read_bytes()
        record.write_text("{")
        done = house.colabdev("ps")
        assert done.returncode == 15
        assert "unknown, was running" in done.stdout
        document = json.loads(house.colabdev("ps", "--json").stdout)
        assert document["error"]["exit_code"] == 15
        assert [(row["state"], row["current"]) for row in document["jobs"]] == [("unknown", False)]
        record.write_bytes(whole)
        assert house.colabdev("ps").returncode == 0


# --- what is seen beside the jobs ----------------------------------------------------------------


def test_status_says_what_runs_and_how_drive_stands(house: House) -> None:
    job = started(house, "seen", waiting_for("seen"))
    wait_until(lambda: job_json(house, job)["metrics"], timeout_s=20, message="it is sampled")
    (row,) = house.status()
    assert row["running_jobs"] == 1
    assert row["metrics"]["memory_bytes"] > 0
    assert [mirror["workdir"] for mirror in row["mirrors"]] == [row["workdir"]]
    shown = house.colabdev("status").stdout
    assert "local: 1 job runs; cpu " in shown
    assert f"local: Drive, {row['workdir']}: " in shown
    allow(house, "seen")
    wait_until(lambda: is_home(house, job), message="it ends")


def test_gpu_that_was_not_asked_for_is_said_before_the_job_starts(
    house: House, tmp_path: Path
) -> None:
    project = tmp_path / "asks"
    project.mkdir()
    (project / "colabdev.toml").write_text('[runtime]\ngpu = ["Quantum 9"]\n')
    done = house.colabdev("run", "--name", "gpu", "true", cwd=project)
    complaint, started, *_ = done.stderr.splitlines()
    assert done.returncode == 0
    assert "[runtime] gpu of colabdev.toml asks for Quantum 9; this runtime has " in complaint
    assert "job gpu-" in started


def test_bug_report_is_not_sent_by_the_next_sync(house: House, tmp_path: Path) -> None:
    project = tmp_path / "reports"
    project.mkdir()
    (project / "a.py").write_text("")
    house.colabdev("doctor", "--bundle", cwd=project)
    assert list(project.glob("colabdev-bug-report-*.zip")), "it is where one looks for it"
    house.connect()
    planned = json.loads(house.colabdev("sync", "--dry-run", "--json", cwd=project).stdout)
    assert [action["path"] for action in planned["actions"]] == ["a.py"]
