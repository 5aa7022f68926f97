"""What cannot be run is said in a sentence and ends with 125; nothing is started or sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from colabdev.cli.app import main
from colabdev.models import Phase
from tests.support.house import House
from tests.support.jobs import Running, listed


@dataclass(frozen=True, slots=True)
class Case:
    """A command line and what must come of it."""

    argv: tuple[str, ...]
    says: str
    code: int = 125


CASES = [
    Case(("run",), "cannot run an empty command"),
    Case(("run", ""), "cannot run an empty command"),
    Case(("run", "--"), "cannot run an empty command"),
    Case(("run", "nowhere.py"), "'nowhere.py': there is no such file"),
    Case(("run", "nowhere.sh"), "'nowhere.sh': there is no such file"),
    Case(("run", "./nowhere"), "'./nowhere': there is no such file"),
    Case(("run", "--no-sync", "nowhere.py"), "'nowhere.py': it is not on the runtime"),
    Case(("run", "folder"), "'folder': it is a directory"),
    Case(("run", "folder/"), "'folder/': it is a directory"),
    Case(("run", "folder.py"), "'folder.py': it is a directory"),
    Case(("run", "x.py/y.py"), "'x.py/y.py': Not a directory"),
    Case(("run", "../outside.py"), "'../outside.py': it is outside of the project"),
    Case(("run", "/etc/profile.sh"), "'/etc/profile.sh': it is outside of the project"),
    Case(("run", "nowhere.ipynb"), "'nowhere.ipynb': there is no such file"),
    Case(("run", "x.ipynb", "--lr", "1"), "'x.ipynb' with arguments: a notebook takes none"),
    Case(("run", "--requirements", "nowhere.txt", "x.py"), "'nowhere.txt': there is no such file"),
    Case(("run", "--requirements", "folder", "x.py"), "'folder': it is a directory"),
    Case(("run", "--requirements", "../outside.py", "x.py"), "it is outside of the project"),
    Case(("run", "--requirements", "bad/pyproject.toml", "x.py"), "it lists no dependencies"),
    Case(("run", "--requirements", "pyproject.toml", "x.py"), "cannot read 'pyproject.toml': "),
    Case(("run", "--env-file", "folder", "x.py"), "Is a directory"),
    Case(("run", "--timeout", "soon", "x.py"), "cannot end it after 'soon'"),
    Case(("run", "--after", "nothing", "x.py"), "no job is called 'nothing'"),
    Case(("run", "--after-ok", "", "x.py"), "no job is called ''"),
    Case(("run", "--secret", "a b", "x.py"), "cannot set the variable 'a b'"),
    Case(("run", "--secret", "COLABDEV_JOB", "x.py"), "cannot set COLABDEV_JOB"),
    Case(("run", "-m", ""), "a module without a name"),
    Case(("run", "-m"), "requires an argument"),
    Case(("run", "--env", "SEED", "x.py"), "cannot set the variable 'SEED'"),
    Case(("run", "--env", "=1", "x.py"), "cannot set the variable ''"),
    Case(("run", "--env", "a b=secret", "x.py"), "cannot set the variable 'a b': --env takes"),
    Case(("run", "--env", "COLABDEV_JOB=x", "x.py"), "cannot set COLABDEV_JOB"),
    Case(("run", "--name", "Big Name", "x.py"), "cannot call a job 'Big Name'"),
    Case(("run", "--name", "", "x.py"), "cannot call a job ''"),
    Case(("run", "--bogus", "x.py"), "No such option"),
    Case(("run", "-r", "nobody", "x.py"), "no runtime is called 'nobody'"),
    Case(("run", "-r", "../x", "x.py"), "cannot use '../x'"),
    Case(("logs", "nothing"), "no job is called 'nothing'", 1),
    Case(("logs", ""), "no job is called ''", 1),
    Case(("logs", "../../etc"), "no job is called '../../etc'", 1),
    Case(("logs",), "no job is known here", 1),
    Case(("stop",), "Missing argument 'JOB'", 2),
    Case(("stop", "nothing"), "no job is called 'nothing'", 1),
    Case(("run", "--attached", "--detach", "x.py"), "--attached and --detach exclude each other"),
    Case(("stop", "x", "--signal", "INTT"), "unknown signal 'INTT'; did you mean 'INT'?", 2),
    Case(("stop", "x", "--signal", ""), "unknown signal ''; known: ABRT", 2),
    Case(("stop", "x", "--grace", "-1"), "Invalid value for '--grace'", 2),
    Case(("stop", "x", "--grace", "soon"), "should be a valid number", 2),
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        (house.project / "x.py").write_text("print()")
        (house.project / "x.ipynb").write_text("{}")
        for folder in ("folder", "folder.py", "bad"):
            (house.project / folder).mkdir()
        (house.project / "bad" / "pyproject.toml").write_text("[project]\n")
        (house.project / "pyproject.toml").write_text("[project\n")
        (house.project.parent / "outside.py").write_text("print()")
        yield house


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case.argv)[:40])
def test_bad_command_line_is_answered_and_starts_nothing(
    house: House,
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Within this process: there are many of them."""
    for name, value in house.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(house.project)
    assert main(case.argv) == case.code
    said = capfd.readouterr()
    assert case.says in " ".join(said.err.split())
    assert "=secret" not in said.err
    assert "next:" in said.err
    assert said.out == ""
    assert not list((house.places.state_dir / "jobs").glob("*"))


def test_script_that_cannot_be_read_is_said(house: House) -> None:
    (house.project / "loop.py").symlink_to("loop.py")
    done = house.colabdev("run", "loop.py")
    assert done.returncode == 125
    assert "'loop.py': Too many levels of symbolic links" in done.stderr


def test_script_that_is_misspelt_is_named(house: House) -> None:
    (house.project / "train.py").touch()
    done = house.colabdev("run", "trian.py")
    assert done.returncode == 125
    assert "'trian.py': there is no such file; did you mean 'train.py'?\n" in done.stderr


def test_run_without_a_runtime_or_a_project_is_said(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        (house.project / "x.py").write_text("print()")
        done = house.colabdev("run", "x.py")
        assert (done.returncode, done.stdout) == (125, "")
        assert "there is no Google login on this computer. The ways in:" in done.stderr
        done = house.colabdev("run", "--provider", "local", "x.py")
        assert (done.returncode, done.stdout) == (125, "")
        assert "no runtime is up, and nobody is here to be asked" in done.stderr
        assert "colabdev run --yes … starts 'local': a sandbox" in done.stderr
        assert house.status() == []
        (house.home / "x.py").write_text("print()")
        done = house.colabdev("run", "x.py", cwd=house.home)
        assert done.returncode == 125
        assert "this folder is no project" in done.stderr
        assert json.loads(house.colabdev("ps", "--json").stdout) == {"schema": 1, "jobs": []}


def test_ambiguous_and_unreadable_jobs_are_named(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.connect()
        ids = sorted(
            house.colabdev("run", "--detach", "--name", "twin", "true").stdout.strip()
            for _ in range(2)
        )
        done = house.colabdev("logs", "twi")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"'twi' may mean {ids[0]}, {ids[1]}" in done.stderr
        record = house.places.state_dir / "jobs" / ids[0] / "job.json"
        record.write_text("{")
        done = house.colabdev("ps", "--json")
        document = json.loads(done.stdout)
        assert (done.returncode, document["error"]["exit_code"]) == (15, 15)
        assert [job["id"] for job in document["jobs"]] == [ids[1]]
        done = house.colabdev("logs", ids[0])
        assert done.returncode == 15
        assert ids[0] in done.stderr
        assert house.colabdev("logs", ids[1]).returncode == 0
        record.unlink()
        assert {job["id"] for job in listed(house)} == set(ids)


def test_failures_of_ours_are_125_and_bugs_too(house: House) -> None:
    """A state directory that cannot be written, which other commands end with 1."""
    with Running(
        house, "run", "x.py", env={**house.environment, "COLABDEV_STATE_DIR": "/proc/nowhere"}
    ) as running:
        status, out, err = running.finish()
    assert (status, out) == (125, b""), err


def test_no_sync_does_not_run_in_another_projects_work_dir(house: House, tmp_path: Path) -> None:
    assert house.colabdev("run", "x.py").returncode == 0
    other = tmp_path / house.project.name
    other.mkdir()
    (other / "colabdev.toml").touch()
    (other / "x.py").write_text("print('other')")
    done = house.colabdev("run", "--no-sync", "x.py", cwd=other)
    assert (done.returncode, done.stdout) == (125, "")
    assert f"it belongs to {house.project} on this computer" in done.stderr
    assert len(listed(house)) == 1


def test_run_on_a_runtime_that_is_being_released_is_refused(house: House) -> None:
    before = len(listed(house))
    house.change(lambda record: replace(record, phase=Phase.RELEASING))
    done = house.colabdev("run", "-r", "local", "x.py")
    house.change(lambda record: replace(record, phase=Phase.UP))
    assert (done.returncode, done.stdout) == (125, "")
    assert "the runtime 'local' is being released" in done.stderr
    assert len(listed(house)) == before
