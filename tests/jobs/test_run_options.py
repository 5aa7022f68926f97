"""What `run` can be told beside the command: variables, secrets, when to begin, how long to take."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.jobs import (
    Running,
    allow,
    job_of,
    run_bytes,
    state_of,
    waiting_for,
    workdir,
)
from tests.support.relay import Relay
from tests.support.terminals import at_terminal
from tests.support.waiting import wait_until
from tests.support.wheels import make_wheel

PLANTED = "planted-5Yq9-secret"
SHOW_HASH = 'printf %s "$TOKEN" | sha256sum | cut -c1-64'
HASH = hashlib.sha256(PLANTED.encode()).hexdigest() + "\n"

KEYRING = """
import json, os, time
from keyring.backend import KeyringBackend

class Filed(KeyringBackend):
    priority = 1

    def get_password(self, service, name):
        assert service == "colabdev"
        with open(os.environ["KEYRING_FILE"]) as file:
            return json.load(file).get(name)

    def set_password(self, service, name, password):
        raise NotImplementedError

class Hung(Filed):
    def get_password(self, service, name):
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One computer with one runtime for all tests here; each has jobs of its own name."""
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        yield house


@pytest.fixture
def keyring(tmp_path: Path) -> Mapping[str, str]:
    """What makes a command line use a keyring that has `TOKEN`."""
    (tmp_path / "house_keyring.py").write_text(KEYRING)
    (tmp_path / "keys.json").write_text(json.dumps({"TOKEN": PLANTED}))
    return {
        "PYTHONPATH": str(tmp_path),
        "PYTHON_KEYRING_BACKEND": "house_keyring.Filed",
        "KEYRING_FILE": str(tmp_path / "keys.json"),
    }


# --- variables and secrets -----------------------------------------------------------------------


def test_env_files_are_read_as_dotenv_does_and_options_win(house: House) -> None:
    (house.project / ".env").write_text(
        textwrap.dedent("""
            # a comment
            export PLAIN=one # and why
            QUOTED="two words
            on two lines"
            RAW='${HOME} $(id)'
            OVER=file
            EMPTY=
        """)
    )
    (house.project / "more.env").write_text("\ufeffPLAIN=later\r\n")
    line = 'printf "%s|" "$PLAIN" "$QUOTED" "$RAW" "$OVER" "${EMPTY-unset}"'
    files = ("--env-file", ".env", "--env-file", "more.env")
    done = house.colabdev("run", *files, "--env", "OVER=option", "sh", "-c", line)
    assert done.stdout == "later|two words\non two lines|${HOME} $(id)|option||", done.stderr
    assert "  .env goes there as a file, too; a line in .colabdevignore keeps it" in done.stderr
    named = "  .env, more.env may hold secrets, and go to the runtime and to Drive; lines in"
    assert done.stderr.count(named) == 1
    assert "may hold secrets" not in house.colabdev("run", "true").stderr, "it is said once"
    (house.project / ".colabdevignore").write_text("*.env\n")
    assert "as a file" not in house.colabdev("run", "--env-file", "more.env", "true").stderr
    (house.project / ".colabdevignore").unlink()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A=1\nNOVALUE\n", "line 2 sets no variable"),
        ("A=1\nB='secret\n", "line 2 sets no variable"),
        ("a b=secret\n", "line 1 sets no variable"),
        ("é=secret\n", "cannot set the variable 'é'"),
        ("COLABDEV_JOB=secret\n", "cannot set COLABDEV_JOB"),
        ("\udcff=secret\n", "is not UTF-8 text"),
        (None, "No such file"),
    ],
)
def test_env_file_that_makes_no_sense_is_said_without_a_value(
    house: House, text: str | None, says: str
) -> None:
    file = house.project / "bad.env"
    file.unlink(missing_ok=True)
    if text is not None:
        file.write_bytes(os.fsencode(text))
    done = house.colabdev("run", "--env-file", "bad.env", "true")
    file.unlink(missing_ok=True)
    assert done.returncode == 125
    assert says in done.stderr
    assert "secret" not in done.stderr


def test_secret_comes_from_the_keyring_before_the_environment(
    house: House, keyring: Mapping[str, str]
) -> None:
    command = ("run", "--secret", "TOKEN", "sh", "-c", SHOW_HASH)
    assert house.colabdev(*command, env={**keyring, "TOKEN": "other"}).stdout == HASH
    assert house.colabdev(*command, env={"TOKEN": PLANTED}).stdout == HASH
    hung = {**keyring, "PYTHON_KEYRING_BACKEND": "house_keyring.Hung", "TOKEN": PLANTED}
    begun = time.monotonic()
    assert house.colabdev(*command, env=hung).stdout == HASH
    assert time.monotonic() - begun < 15, "a keyring that hangs is given 3 s"


def test_secret_that_nobody_has_is_said_before_anything_starts(house: House) -> None:
    done = house.colabdev("run", "--secret", "TOKEN", "--name", "nosecret", "true")
    assert (done.returncode, done.stdout) == (125, "")
    assert "cannot find the secret TOKEN" in done.stderr
    assert "keyring set colabdev TOKEN" in done.stderr
    done = house.colabdev("run", "--secret", "TO KEN", "true")
    assert "cannot set the variable 'TO KEN'" in done.stderr
    assert not list((house.places.state_dir / "jobs").glob("nosecret-*"))


def test_secret_is_asked_for_at_a_terminal_and_not_shown(house: House) -> None:
    with at_terminal(house, "run", "--secret", "TOKEN", "sh", "-c", SHOW_HASH) as at:
        at.expect(b"TOKEN: ")
        at.type(PLANTED.encode() + b"\r")
        assert at.finish() == 0
        assert HASH.strip().encode() in at.output
        assert PLANTED.encode() not in at.output


def test_secrets_are_in_no_file_and_no_command_line(
    house: House, keyring: Mapping[str, str]
) -> None:
    """Of a job that runs, and of one that waits for it, on either side."""
    (house.project.parent / "outside.env").write_text(f"FILED={PLANTED}\n")
    filed = ("--env-file", "../outside.env", "--env", f"FILED_TOO={PLANTED}")
    line = f"{SHOW_HASH}; {waiting_for('searched')}"
    first = house.colabdev(
        *("--verbose", "run", "--detach", "--name", "first", "--secret", "TOKEN", "sh", "-c", line),
        env=keyring,
    )
    job = first.stdout.strip()
    options = ("--name", "second", "--secret", "TOKEN", *filed, "--after", job)
    second = house.colabdev(
        *("--verbose", "run", "--detach", *options, "sh", "-c", SHOW_HASH),
        env=keyring,
    )
    waits = second.stdout.strip()
    wait_until(lambda: state_of(house, waits) == "queued", message="it waits")
    assert run_bytes(house, "logs", job)[1] == HASH.encode()
    assert PLANTED not in first.stderr + second.stderr
    assert holders(house.places.state_dir) == []
    assert command_lines() == []
    allow(house, "searched")
    assert run_bytes(house, "logs", "-f", waits)[1] == HASH.encode()
    assert holders(house.places.state_dir) == []


def holders(root: Path) -> list[Path]:
    """The files below that hold the planted secret; the sandbox's disk is among them."""
    files = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
    return [
        file
        for file in files
        if file.is_file() and not file.is_symlink() and PLANTED.encode() in file.read_bytes()
    ]


def command_lines() -> list[str]:
    """The processes of this computer whose arguments hold it."""
    found = []
    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = arguments.read_bytes()
        except OSError:
            continue
        if PLANTED.encode() in text:
            found.append(str(text))
    return found


# --- requirements and notebooks ------------------------------------------------------------------


def test_requirements_of_the_settings_the_option_and_a_pyproject(house: House) -> None:
    wheels = house.project.parent / "wheels"
    for name in ("alpha", "beta", "gamma"):
        make_wheel(wheels, f"tool-{name}", "1.5")
    project = house.project
    (project / "sub").mkdir()
    (project / "colabdev.toml").write_text('[job]\nrequirements = "needs.txt"\n')
    (project / "needs.txt").write_text(f"--no-index\n--find-links {wheels}\ntool-alpha\n")
    (project / "sub" / "other.txt").write_text("-r ../needs.txt\ntool-beta\n")
    (project / "pyproject.toml").write_text("[project]\ndependencies = ['tool-gamma==1.5']\n")
    (project / "tools.py").write_text(
        "import pkgutil; print([m.name for m in pkgutil.iter_modules() if m.name[:5] == 'tool_'])"
    )
    try:
        sub, offline = project / "sub", {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
        said = [
            house.colabdev("run", "../tools.py", cwd=sub).stdout,
            house.colabdev("run", "--requirements", "other.txt", "../tools.py", cwd=sub).stdout,
            house.colabdev(
                *("run", "--requirements", "pyproject.toml"),
                *(word for pair in offline.items() for word in ("--env", "=".join(pair))),
                "tools.py",
            ).stdout,
        ]
    finally:
        (project / "colabdev.toml").unlink()
        (project / "pyproject.toml").unlink()
    lines = [text.splitlines() for text in said]
    assert [text[0] for text in lines] == [
        "colabdev: installing needs.txt with pip",
        "colabdev: installing other.txt with pip",
        "colabdev: installing pyproject.toml with pip",
    ]
    assert [text[-1] for text in lines] == [
        "['tool_alpha']",
        "['tool_alpha', 'tool_beta']",
        "['tool_gamma']",
    ]


def test_requirements_that_sync_does_not_send_are_refused(house: House) -> None:
    (house.project / ".colabdevignore").write_text("ignored.txt\n")
    (house.project / "ignored.txt").touch()
    done = house.colabdev("run", "--requirements", "ignored.txt", "true")
    (house.project / ".colabdevignore").unlink()
    assert done.returncode == 125
    assert "cannot use 'ignored.txt': sync does not send it: it is ignored" in done.stderr


def test_notebook_comes_home_with_its_outputs(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        done = house.colabdev("connect", "--provider", "local", "--python", sys.executable)
        assert done.returncode == 0, done.stderr
        (house.project / "n.ipynb").write_text(json.dumps(notebook("import x; x.go()")))
        (house.project / "x.py").write_text("def go(): print('frozen')")
        done = house.colabdev("run", "n.ipynb")
        assert (done.returncode, done.stdout) == (0, "frozen\n"), done.stdout + done.stderr
        assert house.colabdev("sync").returncode == 0
        [cell] = json.loads((house.project / "n.ipynb").read_text())["cells"]
        assert cell["outputs"][0]["text"] == ["frozen\n"]
        assert sorted(os.listdir(workdir(house))) == [".colabdev", "n.ipynb", "x.py"]


def notebook(source: str) -> dict[str, object]:
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": source, "outputs": []}
    cells = [{**cell, "execution_count": None}]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}


# --- when, and how long --------------------------------------------------------------------------


def test_run_that_takes_too_long_ends_with_124(house: House) -> None:
    status, out, err = run_bytes(
        house, "run", "--name", "slow", "--timeout", "1s", "sh", "-c", "echo begun; sleep 60"
    )
    assert (status, out) == (124, b"begun\n"), err
    assert state_of(house, job_of(err)) == "timed_out"
    for typed in ("", "0s", "90", "1.5h", "m", "-1s", "٣s"):
        done = house.colabdev("run", "--timeout", typed, "true")
        assert done.returncode == 125
        assert "--timeout takes a number and s, m, h or d" in done.stderr


def test_run_after_another_follows_it_from_the_queue(house: House) -> None:
    line = f"{waiting_for('first-done')}; exit 3"
    first = house.colabdev("run", "--detach", "--name", "one", "sh", "-c", line).stdout.strip()
    command = ("run", "--name", "two", "--after", "one", "sh", "-c", "echo ran; exit 4")
    with Running(house, *command) as running:
        wait_until(partial(is_queued, house, "two"), message="it waits")
        last = house.colabdev("run", "--detach", "--name", "three", "--after-ok", first, "true")
        allow(house, "first-done")
        status, out, err = running.finish()
    assert (status, out) == (4, b"ran\n")
    assert f"it waits for {first}" in err
    three = last.stdout.strip()
    wait_until(lambda: state_of(house, three) == "stopped", message="it is not started")
    assert f"because {first} failed with 3" in house.colabdev("logs", three).stdout
    # By now it is known here how the first one ended.
    assert house.colabdev("run", "--after", first, "echo", "now").stdout == "now\n"
    done = house.colabdev("run", "--after-ok", first, "true")
    assert done.returncode == 125
    assert "that did not succeed, it is failed" in done.stderr
    assert house.colabdev("run", "--after", "nothing", "true").returncode == 125


def is_queued(house: House, name: str) -> bool:
    jobs = (house.places.state_dir / "jobs").glob(f"{name}-*")
    return any(state_of(house, job.name) == "queued" for job in jobs)


# --- one round trip ------------------------------------------------------------------------------


def test_start_of_what_is_there_already_costs_one_round_trip(tmp_path: Path) -> None:
    rtt_s = 1.2
    with House(tmp_path) as house:
        machine = house.connect().machine
        assert machine is not None
        (house.project / "x.py").write_text("print('x')")
        assert house.colabdev("run", "x.py").stdout == "x\n"
        near = min(seconds_to_run(house) for _ in range(2))
        with Relay(machine.ssh.host, machine.ssh.port) as relay:
            moved = replace(machine, ssh=replace(machine.ssh, port=relay.port))
            house.change(lambda record: replace(record, machine=moved))
            house.end_keeper()
            house.keeper().wait_ready(30)
            relay.stretch(rtt_s)
            # The best of a few, for each hands out a spare agent and the next takes a while to come.
            far = seconds_to_run(house)
            for _ in range(3):
                if far - near < rtt_s * 1.7:
                    break
                far = min(far, seconds_to_run(house))
            house.end_keeper()
        assert rtt_s * 0.5 < far - near < rtt_s * 1.7


def seconds_to_run(house: House) -> float:
    """From the command line to the first byte of the job."""
    begun = time.monotonic()
    with Running(house, "run", "x.py") as running:
        assert running.read(2) == b"x\n"
        taken = time.monotonic() - begun
        running.finish()
    return taken


def test_run_says_what_it_sent_and_nothing_when_nothing_was(house: House) -> None:
    (house.project / "sent.py").write_text("print('sent')")
    (house.project / "beside.txt").write_text("12345")
    _, out, err = run_bytes(house, "run", "sent.py")
    assert (out, "  sent beside.txt, sent.py, 18 bytes\n" in err) == (b"sent\n", True), err
    (house.project / "beside.txt").unlink()
    (house.project / "sent.py").write_text("print('edited')")
    _, out, err = run_bytes(house, "run", "sent.py")
    assert err.splitlines()[1:] == ["  sent sent.py, 15 bytes", "  deleted there: beside.txt"]
    assert run_bytes(house, "run", "sent.py")[2].count("\n") == 1
    assert not (workdir(house) / "beside.txt").exists()
