"""The Python API: what a program, or a notebook, does with a runtime of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import colabdev
from colabdev.errors import ColabdevError, NotSafeToRelease, RuntimeLost, UsageError
from colabdev.models import JobState
from tests.support.house import House, is_running
from tests.support.jobs import (
    allow,
    job_directory,
    kill,
    listed,
    state_of,
    supervisor_pid,
    waiting_for,
    workdir,
)
from tests.support.waiting import wait_until

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One computer with one runtime for all tests here that break nothing."""
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        yield house


@pytest.fixture
def own_house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


def stand_in(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """This very process is a program of that house's user."""
    for name in [name for name in os.environ if name not in house.environment]:
        monkeypatch.delenv(name)
    for name, value in house.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(house.project)


@pytest.fixture
def runtime(house: House, monkeypatch: pytest.MonkeyPatch) -> colabdev.Runtime:
    stand_in(house, monkeypatch)
    return colabdev.connect("local")


def shell(runtime: colabdev.Runtime, line: str, *, name: str = "shell") -> colabdev.Job:
    return runtime.run(["sh", "-c", line], name=name)


def test_job_is_started_followed_and_waited_for(house: House, runtime: colabdev.Runtime) -> None:
    (house.project / "train.py").write_text(
        "import os, sys\nprint(sys.argv[1], os.environ['SEED'])\nprint('zwölf')\nsys.exit(7)\n"
    )
    job = runtime.run(["train.py", "--epochs"], env={"SEED": "a=b"})
    assert list(job) == ["--epochs a=b", "zwölf"]
    assert b"".join(job.log()) == "--epochs a=b\nzwölf\n".encode(), "each time from the first byte"
    assert job.wait() == 7
    told = job.status()
    assert (told.state, told.exit_code, told.argv) == (JobState.FAILED, 7, ("train.py", "--epochs"))
    assert [known.id for known in runtime.jobs()][:1] == [job.id]
    assert runtime.job(job.id[:-2]).wait() == 7
    assert listed(house)[0]["id"] == job.id, "the command line knows it, too"


def test_lines_come_while_the_job_runs(house: House, runtime: colabdev.Runtime) -> None:
    job = shell(runtime, f"printf 'first\\n 1%%\\r 2%%'; {waiting_for('seen')}; echo last")
    lines = iter(job)
    assert [next(lines), next(lines)] == ["first", " 1%"]
    assert job.status().state is JobState.RUNNING
    allow(house, "seen")
    assert list(lines) == [" 2%last"]


def test_module_runs(house: House, runtime: colabdev.Runtime) -> None:
    (house.project / "tool.py").write_text("import sys; print(sys.argv[1:])")
    assert list(runtime.run(["--help"], module="tool")) == ["['--help']"]


def test_wait_gives_a_signal_as_a_shell_would(runtime: colabdev.Runtime) -> None:
    assert shell(runtime, "kill -9 $$").wait() == 137


def test_stop_ends_a_job(runtime: colabdev.Runtime) -> None:
    job = shell(runtime, "trap '' TERM; while :; do sleep 0.1; done")
    assert job.stop(grace_s=0.2).state is JobState.STOPPED
    assert job.wait() == 137


def test_job_waits_for_another_and_takes_only_so_long(runtime: colabdev.Runtime) -> None:
    endless = runtime.run(["sleep", "60"], timeout="1s")
    after = runtime.run(["echo", "then"], after=[endless])
    assert list(after) == ["then"]
    assert endless.wait() == 124
    with pytest.raises(colabdev.ColabdevError, match="did not succeed, it is timed_out"):
        runtime.run(["echo", "never"], after_ok=[endless])


def test_block_of_a_job_waits_for_it_and_an_exception_stops_it(runtime: colabdev.Runtime) -> None:
    with shell(runtime, "sleep 0.3; exit 3") as job:
        pass
    assert job.status().exit_code == 3
    with pytest.raises(KeyboardInterrupt), shell(runtime, "sleep 60") as job:
        raise KeyboardInterrupt
    assert job.status().state is JobState.STOPPED


def test_job_without_a_supervisor_is_no_status(house: House, runtime: colabdev.Runtime) -> None:
    job = shell(runtime, waiting_for("orphan"))
    kill(supervisor_pid(house, job.id))
    allow(house, "orphan")
    with pytest.raises(ColabdevError, match="exit code unknown"):
        job.wait()


def test_sync_says_what_it_did(house: House, runtime: colabdev.Runtime) -> None:
    (house.project / "new.txt").write_text("here")
    assert "new.txt" in [action.path for action in runtime.sync().sent]
    (workdir(house) / "new.txt").write_text("there")
    (house.project / "new.txt").write_text("here again")
    report = runtime.sync()
    assert ([c.path for c in report.conflicts], report.is_complete) == (["new.txt"], False)
    assert runtime.sync(prefer="local").is_complete
    assert (workdir(house) / "new.txt").read_text() == "here again"


def test_errors_are_those_of_the_command_line(runtime: colabdev.Runtime) -> None:
    with pytest.raises(UsageError) as caught:
        runtime.run(["nowhere.py"])
    assert isinstance(caught.value, colabdev.ColabdevError)
    assert caught.value.hint
    with pytest.raises(UsageError):
        runtime.run([])
    with pytest.raises(colabdev.ColabdevError):
        runtime.job("nobody")


def test_block_of_a_runtime_gives_it_back(
    own_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(own_house, monkeypatch)
    said: list[str] = []
    with colabdev.connect("local", progress=said.append) as runtime:
        assert shell(runtime, "echo done").wait() == 0
        left = shell(runtime, "echo begun; sleep 60")
        wait_until(lambda: left.status().log_bytes != 0, message="it runs")
        supervisor = supervisor_pid(own_house, left.id)
    assert not is_running(supervisor)
    assert own_house.store.names() == []
    assert said, "its steps are told"
    assert list(left) == ["begun"], "its log came home"
    assert left.status().state is JobState.STOPPED


def test_runtime_that_would_lose_edits_stays(
    own_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(own_house, monkeypatch)
    runtime = colabdev.connect("local")
    (own_house.project / "code.py").write_text("1")
    runtime.sync()
    drive = own_house.record().machine
    assert drive is not None
    assert drive.drive_dir is not None
    block_drive(Path(drive.drive_dir))
    (workdir(own_house) / "code.py").write_text("2")
    (own_house.project / "code.py").write_text("3")
    with pytest.raises(NotSafeToRelease):
        runtime.down()
    runtime.down(force=True)
    assert own_house.store.names() == []


def block_drive(drive: Path) -> None:
    """Drive takes nothing any more, whoever asks: where our folder should be there is a file."""
    ours = drive / "colabdev"
    if ours.exists():
        ours.rename(drive / "moved")
    ours.write_text("a file")


def test_machine_that_dies_loses_the_job(own_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(own_house, monkeypatch)
    job = shell(colabdev.connect("local"), "echo begun; sleep 60")
    lines = iter(job)
    assert next(lines) == "begun"
    assert own_house.colabdev("local", "kill", "local").returncode == 0
    with pytest.raises(RuntimeLost):
        list(lines)
    with pytest.raises(RuntimeLost):
        job.wait()


def test_job_outlives_the_program_that_started_it(house: House) -> None:
    program = (
        "import colabdev\n"
        "job = colabdev.connect('local').run(['sh', '-c', 'sleep 0.5; exit 4'], name='left')\n"
        "print(job.id)\n"
    )
    job_id = in_python(house, program).strip()
    assert job_directory(house, job_id).is_dir()
    wait_until(lambda: state_of(house, job_id) == "failed", message="it ends by itself")


def test_example_of_the_readme_runs(house: House) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (house.project / "train.py").write_text("import sys; print('epoch', sys.argv[-1])")
    assert in_python(house, example).splitlines() == ["epoch 3", "0"]


def test_importing_colabdev_loads_nothing() -> None:
    program = (
        "import sys, json; before = set(sys.modules); import colabdev; dir(colabdev)\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["__future__", "colabdev"]


def test_file_names_that_are_not_utf_8_are_refused(house: House) -> None:
    program = (
        "import colabdev\n"
        "try: colabdev.connect('local')\n"
        "except colabdev.ColabdevError as error: print(error.hint)"
    )
    environment = {**house.environment, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}
    options = ["-X", "utf8=0", "-c", program]
    done = subprocess.run(
        [sys.executable, *options],
        check=False,
        cwd=house.project,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "start Python with PYTHONUTF8=1\n", done.stderr


def in_python(house: House, program: str) -> str:
    """Run the program as the house's user; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=house.project,
        env=house.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
