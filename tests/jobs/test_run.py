"""`run`, `ps`, `logs` and `stop` as a user meets them: a real sandbox, a real keeper, real pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.support.house import House, is_running
from tests.support.jobs import (
    Running,
    allow,
    bare_environment,
    job_directory,
    job_of,
    kill,
    listed,
    run_bytes,
    state_of,
    supervisor_pid,
    waiting_for,
    workdir,
)
from tests.support.openssh_house import behind_openssh
from tests.support.relay import Relay
from tests.support.waiting import wait_until

LINES = b"".join(b"line %d\n" % number for number in range(30))
SLOW_LINES = "i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); sleep 0.05; done"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One computer with one runtime for all tests here; each has jobs of its own name."""
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        yield house


def started(house: House, name: str, line: str) -> str:
    """A job that runs that shell line, left alone; its id."""
    done = house.colabdev("run", "--detach", "--name", name, "sh", "-c", line)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def has_jobs(house: House, count: int) -> bool:
    """This computer has written that many jobs down."""
    return len(list((house.places.state_dir / "jobs").glob("*/job.json"))) >= count


# --- its own exit code ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 125", 125),
        ("exit 130", 130),
        ("exec nowhere", 127),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
    ],
)
def test_run_ends_with_the_jobs_own_status(house: House, line: str, code: int) -> None:
    status, out, err = run_bytes(house, "run", "--name", "own", "sh", "-c", f"echo out; {line}")
    assert (status, out[:4]) == (code, b"out\n"), err
    assert "interrupted" not in err
    said = err.splitlines()
    assert len(said) == (1 if code == 0 else 3), "that it starts, and how it failed"
    assert said[0].startswith("  job own-")


def test_run_in_an_empty_new_folder_makes_its_work_dir(house: House, tmp_path: Path) -> None:
    project = tmp_path / tmp_path.name
    project.mkdir()
    done = house.colabdev("run", "sh", "-c", "basename $PWD", cwd=project)
    assert (done.returncode, done.stdout) == (0, f"{project.name}\n"), done.stderr
    other = tmp_path / "other"
    other.mkdir()
    done = house.colabdev("run", "--no-sync", "pwd", cwd=other)
    assert done.returncode == 125
    assert "is not on the runtime" in done.stderr


def test_program_that_is_not_there_is_the_jobs_127(house: House) -> None:
    status, out, _ = run_bytes(house, "run", "--", "no-such-program", "--json")
    assert (status, out) == (127, b"no-such-program: command not found\n")


# --- a true log ----------------------------------------------------------------------------------


def test_line_without_flush_arrives_at_once_in_an_empty_environment(house: House) -> None:
    script = (
        "import os, time\nprint('first')\nwhile not os.path.exists('flushed'): time.sleep(.02)\n"
    )
    (house.project / "print.py").write_text(script + "print('second')\n")
    begun = time.monotonic()
    with Running(house, "run", "print.py", env=bare_environment(house)) as running:
        assert running.read(6) == b"first\n"
        assert time.monotonic() - begun < 4, "of which the command line itself takes one"
        before = time.monotonic()
        allow(house, "flushed")
        assert running.read(7) == b"second\n"
        assert time.monotonic() - before < 2
        assert running.finish()[0] == 0


def test_log_is_the_jobs_bytes_exactly(house: House, tmp_path: Path) -> None:
    """5 MB with carriage returns, split UTF-8 and no newline at the end."""
    program = (
        "import os, random; dice = random.Random(5)\n"
        "for _ in range(80):\n"
        "    os.write(1, dice.randbytes(65536) + '\\r\\xe9\\u20ac\\n'.encode()[:-2])\n"
        "os.write(1, b'\\xe2\\x82')\n"
    )
    expected = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, check=True
    ).stdout
    assert len(expected) > 5_000_000
    with (tmp_path / "log").open("wb") as file:
        done = run_bytes(
            house, "run", "--name", "bytes", "python3", "-c", program, stdout=file.fileno()
        )
    assert done[0] == 0, done[2]
    assert (tmp_path / "log").read_bytes() == expected
    job_id = job_of(done[2])
    assert (job_directory(house, job_id) / "log").read_bytes() == expected
    assert run_bytes(house, "logs", job_id)[1] == expected
    status, out, _ = run_bytes(house, "logs", "--json", job_id)
    rows = [json.loads(line) for line in out.splitlines()]
    text = b"".join(row["text"].encode("utf-8", "surrogateescape") for row in rows)
    assert (status, text) == (0, expected)
    assert rows[1]["offset"] == len(rows[0]["text"].encode("utf-8", "surrogateescape"))
    assert (rows[0]["job"], rows[0]["attempt"]) == (job_id, 1)


def test_two_followers_see_all_of_a_detached_job(house: House) -> None:
    job_id = started(house, "shared", SLOW_LINES)
    with (
        Running(house, "logs", "-f", job_id) as first,
        Running(house, "logs", "-f", job_id) as other,
    ):
        assert [running.finish()[:2] for running in (first, other)] == [(0, LINES), (0, LINES)]
    assert (house.places.state_dir / "jobs" / job_id / "log").read_bytes() == LINES


def test_reader_that_goes_away_ends_run_quietly_and_the_job_runs_on(house: House) -> None:
    line = f"echo first; {waiting_for('read')}; echo last"
    with Running(house, "run", "--name", "piped", "sh", "-c", line) as running:
        assert running.read(6) == b"first\n"
        running.stop_reading()
        status, _, err = running.finish(timeout_s=10)  # Although nothing more is written.
    assert (status, err.count("\n")) == (141, 1), err
    job_id = job_of(err)
    assert state_of(house, job_id) == "running"
    allow(house, "read")
    assert run_bytes(house, "logs", "-f", job_id)[:2] == (0, b"first\nlast\n")


def test_ctrl_c_detaches_and_the_rest_is_there_later(house: House) -> None:
    line = f"echo first; {waiting_for('later')}; echo last; exit 5"
    with Running(house, "run", "--name", "left", "sh", "-c", line) as running:
        assert running.read(6) == b"first\n"
        running.interrupt()
        status, out, err = running.finish(timeout_s=5)
    assert (status, out) == (130, b"")
    job_id = next(word for word in err.split() if word.startswith("left-"))
    assert f"colabdev logs -f {job_id}" in err
    assert f"colabdev stop {job_id}" in err
    assert state_of(house, job_id) == "running"
    allow(house, "later")
    assert run_bytes(house, "logs", "-f", job_id)[:2] == (0, b"first\nlast\n")
    row = next(row for row in listed(house) if row["id"] == job_id)
    assert (row["state"], row["exit_code"]) == ("failed", 5)


def test_terminal_that_closes_detaches(house: House) -> None:
    line = f"echo first; {waiting_for('hung-up')}"
    with Running(house, "run", "--name", "hup", "sh", "-c", line) as running:
        assert running.read(6) == b"first\n"
        os.kill(running.pid, signal.SIGHUP)
        status, _, err = running.finish(timeout_s=5)
    assert status == -signal.SIGHUP
    assert state_of(house, job_of(err)) == "running"
    allow(house, "hung-up")


def test_log_is_exact_although_the_keeper_is_killed_and_the_way_is_cut(own_house: House) -> None:
    house = own_house
    machine = house.record().machine
    assert machine is not None
    with Relay(machine.ssh.host, machine.ssh.port) as relay:
        moved = replace(machine, ssh=replace(machine.ssh, port=relay.port))
        house.change(lambda record: replace(record, machine=moved))
        house.end_keeper()
        line = f"{SLOW_LINES}; {waiting_for('go')}; {SLOW_LINES}; exit 3"
        with Running(house, "run", "--name", "cut", "sh", "-c", line) as running:
            log = running.read(40)
            house.end_keeper()
            log += running.read(60)
            relay.cut()
            log += running.read(len(LINES) - 100)
            relay.cut()
            house.end_keeper()
            allow(house, "go")
            status, out, err = running.finish()
        assert (status, log + out) == (3, LINES + LINES), err
        assert 2 <= err.count("was cut; reconnecting") <= 5
        house.end_keeper()


def test_start_that_is_cut_off_starts_once(own_house: House) -> None:
    """The answer never comes; asked again through another connection, the job is there."""
    house = own_house
    machine = house.record().machine
    assert machine is not None
    with Relay(machine.ssh.host, machine.ssh.port) as relay:
        moved = replace(machine, ssh=replace(machine.ssh, port=relay.port))
        house.change(lambda record: replace(record, machine=moved))
        house.end_keeper()
        house.keeper().wait_ready(20)
        for number in range(3):
            with Running(house, "run", "--name", "once", "sh", "-c", "echo x >> ran") as running:
                wait_until(
                    partial(has_jobs, house, number + 1), message="it is about to be started"
                )
                time.sleep(0.02 * number)  # Each time at another moment of the start.
                relay.cut()
                status, _, err = running.finish()
            assert status == 0, err
            assert (workdir(house) / "ran").read_text() == "x\n" * (number + 1)
        house.end_keeper()


def test_jobs_run_the_same_through_openssh(own_house: House) -> None:
    house = own_house
    with behind_openssh(house):
        line = f"{SLOW_LINES}; sleep 0.2; kill -9 $$"
        with Running(house, "run", "--name", "openssh", "sh", "-c", line) as running:
            log = running.read(50)
            house.end_keeper()
            status, out, err = running.finish()
        assert (status, log + out) == (137, LINES), err
        job_id = started(house, "left", "sleep 60")
        done = house.colabdev("stop", job_id)
        assert done.stdout == f"{job_id} is stopped, exit code 143\n", done.stderr


# --- stop, unknown, down -------------------------------------------------------------------------


def test_stop_kills_after_the_grace(house: House) -> None:
    job_id = started(house, "deaf", "trap '' TERM; while :; do sleep 0.1; done")
    done = house.colabdev("stop", job_id[:-2], "--grace", "0.3")
    assert (done.returncode, done.stdout) == (0, f"{job_id} is stopped, exit code 137\n")
    done = house.colabdev("stop", job_id)
    assert (done.returncode, done.stdout) == (0, f"{job_id} has ended already: stopped\n")


def test_job_without_a_supervisor_ends_as_unknown_and_run_with_125(house: House) -> None:
    line = f"echo a; {waiting_for('orphan')}; echo b"
    with Running(house, "run", "--name", "orphan", "sh", "-c", line) as running:
        assert running.read(2) == b"a\n"
        job_id = next(row["id"] for row in listed(house) if row["name"] == "orphan")
        kill(supervisor_pid(house, job_id))
        allow(house, "orphan")
        status, out, err = running.finish()
    assert (status, out) == (125, b"b\n")
    assert "exit code unknown" in err
    row = next(row for row in listed(house) if row["id"] == job_id)
    assert (row["state"], row["exit_code"]) == ("unknown", None)


def test_ps_and_logs_work_after_down(own_house: House) -> None:
    house = own_house
    ended = started(house, "ended", "echo done; exit 6")
    line = "trap 'echo bye; exit 4' TERM; echo begun; while :; do sleep 0.05; done"
    running = started(house, "running", line)
    wait_until(lambda: state_of(house, ended) == "failed", message="it ends")
    supervisor = supervisor_pid(house, running)
    done = house.colabdev("down")
    assert done.returncode == 0, done.stderr
    assert not is_running(supervisor)
    rows = {row["id"]: row for row in listed(house)}
    assert (rows[ended]["state"], rows[ended]["exit_code"]) == ("failed", 6)
    assert (rows[running]["state"], rows[running]["exit_code"]) == ("stopped", 4)
    assert run_bytes(house, "logs", ended) == (0, b"done\n", "")
    status, out, _ = run_bytes(house, "logs", "-f", running)
    assert (status, out[:6]) == (0, b"begun\n")
    assert out.endswith(b"bye\n")


def test_down_of_an_unreachable_runtime_says_what_it_cannot_bring_home(own_house: House) -> None:
    house = own_house
    with Running(house, "run", "--name", "far", "sh", "-c", "echo begun; sleep 60") as running:
        assert running.read(6) == b"begun\n"
        running.interrupt()
        running.finish()
    machine = house.record().machine
    assert machine is not None
    nowhere = replace(machine, ssh=replace(machine.ssh, port=1))
    house.end_keeper()
    house.change(lambda record: replace(record, machine=nowhere))
    done = house.colabdev("down")
    assert done.returncode == 0
    assert "cannot bring the end of far-" in done.stderr
    [row] = listed(house)
    assert (row["state"], row["exit_code"]) == ("lost", None)
    status, out, err = run_bytes(house, "logs")
    assert (status, out) == (0, b"begun\n")
    assert "attempt 1 ended unseen after byte 6" in err


def test_ps_shows_a_job_as_it_was_typed(house: House) -> None:
    status, *_ = run_bytes(house, "run", "--name", "keys", "sh", "-c", "exit 3", "it's")
    row = next(row for row in listed(house) if row["name"] == "keys")
    assert (row["exit_code"], row["argv"]) == (status, ["sh", "-c", "exit 3", "it's"])
    assert f"{row['id']} local failed 3" in " ".join(house.colabdev("ps").stdout.split())


def test_jobs_are_found_again_when_this_computer_forgot_them(own_house: House) -> None:
    job_id = started(own_house, "known", "echo here")
    wait_until(lambda: state_of(own_house, job_id) == "succeeded", message="it ends")
    jobs = own_house.places.state_dir / "jobs"
    jobs.rename(jobs.with_name("forgotten"))
    assert run_bytes(own_house, "logs", "known")[:2] == (0, b"here\n")
    assert [row["id"] for row in listed(own_house)] == [job_id]


# --- hostile words -------------------------------------------------------------------------------


def test_arguments_arrive_as_they_are(house: House) -> None:
    hostile = [
        "",
        " ",
        "it's",
        'say "hi"',
        "a\nb",
        "$HOME",
        "`id`",
        "\\",
        "*",
        "-r",
        "--",
        "-m",
        "é",
    ]
    words = [os.fsencode(word) for word in hostile] + [b"\xff\xfe", b"--json", b"-h", b"--detach"]
    program = "import sys, os; os.write(1, b'\\0'.join(os.fsencode(a) for a in sys.argv[1:]))"
    for before in ([], ["--"]):
        status, out, err = run_bytes(
            house, "run", "--name", "words", *before, "python3", "-c", program, *words
        )
        assert (status, out.split(b"\0")) == (0, words), err


def test_module_gets_its_options_untouched(house: House) -> None:
    (house.project / "tool.py").write_text("import sys; print(sys.argv[1:])")
    status, out, err = run_bytes(
        house, "run", "--name", "mod", "-m", "tool", "-r", "--env", "--help"
    )
    assert (status, out) == (0, b"['-r', '--env', '--help']\n"), err


@pytest.mark.parametrize("name", [b'it\'s "x".py', b"a\nb.py", b"-r.py", b"\xff.py", b"$(id).py"])
def test_script_may_be_called_anything(house: House, name: bytes) -> None:
    with open(os.path.join(os.fsencode(house.project), name), "w") as file:
        file.write("print('ran')")
    try:
        status, out, err = run_bytes(house, "run", "--", name)
        assert (status, out) == (0, b"ran\n"), err
        assert house.colabdev("ps").returncode == 0
    finally:
        os.unlink(os.path.join(os.fsencode(house.project), name))


def test_script_is_found_from_below_the_project(house: House) -> None:
    (house.project / "colabdev.toml").write_text('[job]\nenv = { FROM = "toml", BY = "toml" }\n')
    (house.project / "deep").mkdir()
    (house.project / "deep" / "x.sh").write_text("pwd; echo $FROM $BY")
    try:
        status, out, err = run_bytes(
            house, "run", "--env", "BY=option", "x.sh", cwd=house.project / "deep"
        )
    finally:
        (house.project / "colabdev.toml").unlink()
    assert (status, out.decode()) == (0, f"{workdir(house)}\ntoml option\n"), err
