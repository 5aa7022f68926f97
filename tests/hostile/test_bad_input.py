"""Bad input, told apart: one sentence, the next step, the right code, and nothing lost or changed.

Within this process, because there are hundreds of rows; tests/hostile/test_places.py has real processes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from colabdev.cli.app import main
from tests.hostile.rows import DONE, LIVE, NEW
from tests.hostile.world import Row, World, look
from tests.support.house import House
from tests.support.waiting import wait_until

WITH_JSON = ("connect", "doctor", "down", "init", "logs", "ps", "status", "sync")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("live")) as house:
        house.connect()
        (house.project / "mine.py").write_text("print()")
        assert house.colabdev("run", "--name", DONE, "true").returncode == 0
        assert house.colabdev("sync").returncode == 0
        jobs = house.places.state_dir / "jobs"
        wait_until(lambda: [*jobs.glob("*/status.json")], message="the job is not home")
        # The one that was there may still be bringing the job's code; for a new one all is done.
        house.end_keeper()
        house.keeper().wait_ready(20)
        yield house


def test_rows_are_many_and_distinct() -> None:
    names = [f"{row.name} {row.says}" for row in (*NEW, *LIVE)]
    assert len(names) >= 200
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("row", NEW, ids=lambda row: row.name)
def test_nothing_is_there_yet(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    house = House(tmp_path)
    try_row(row, World(house, house.project), monkeypatch, capfd)
    assert not (house.places.local_dir / "sandboxes").exists(), "nothing was started"


@pytest.mark.parametrize("row", LIVE, ids=lambda row: row.name)
def test_a_runtime_is_up(
    row: Row,
    live: House,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    project = tmp_path / tmp_path.name  # A name of its own, and so a work dir.
    project.mkdir()
    try_row(row, World(live, project), monkeypatch, capfd)


def try_row(
    row: Row, world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Type the row, and type it again with --json where there is such."""
    for prepare in row.given:
        prepare(world)
    for name in set(os.environ) - {"PATH", "LANG", "TMPDIR"}:
        monkeypatch.delenv(name)
    for name, value in {**world.house.environment, **row.env}.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    monkeypatch.chdir(world.project)
    before = look(world)
    code = main(row.line)
    said = capfd.readouterr()
    assert (code, said.out) == (row.code, ""), said.err
    assert row.says in " ".join(said.err.split()) or row.says in said.err
    assert "Traceback" not in said.err
    assert "secret" not in said.err
    *_, sentence, step = [line for line in said.err.splitlines() if line.strip()]
    assert sentence.startswith("colabdev: "), (
        "the last thing said is one sentence and its next step"
    )
    assert step.startswith("  next: ")
    assert step.removeprefix("  next: ").strip()
    if row.line[0] in WITH_JSON:
        assert main([*row.line, "--json"]) == row.code
        out, err = capfd.readouterr()
        error = json.loads(out)["error"]
        assert (error["exit_code"], bool(error["message"]), bool(error["hint"])) == (
            row.code,
            True,
            True,
        ), err
    assert look(world) == before
