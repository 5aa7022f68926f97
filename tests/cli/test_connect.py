"""`connect` as a user types it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


def test_chosen_python_is_the_runtimes(house: House, tmp_path: Path) -> None:
    venv = tmp_path / "it's a venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    chosen = venv / "bin" / "python3"
    done = house.colabdev("connect", "--provider", "local", "--python", chosen)
    assert done.returncode == 0, done.stderr
    show = ["ssh", "local", "--", "python3 -c 'import sys; print(sys.prefix)'"]
    assert house.colabdev(*show).stdout == f"{venv}\n"


def test_default_python_is_not_the_virtual_environment_of_the_caller(house: House) -> None:
    house.connect()
    show = ["ssh", "local", "--", "python3 -c 'import sys; print(sys.prefix == sys.base_prefix)'"]
    assert house.colabdev(*show).stdout == "True\n"


def test_connect_typed_again_reconnects_to_the_same_machine(house: House) -> None:
    first = house.connect()
    again = house.colabdev("connect", "--provider", "local")
    assert again.returncode == 0
    assert "starting" not in again.stderr
    assert house.record().request_id == first.request_id


def test_connect_from_another_project_gives_it_a_work_dir_of_its_own(house: House) -> None:
    house.connect()
    other = house.home / "other"
    other.mkdir()
    assert house.colabdev("connect", "--provider", "local", cwd=other).returncode == 0
    assert [Path(link.workdir).name for link in house.record().projects] == ["project", "other"]
    assert all(Path(link.workdir).is_dir() for link in house.record().projects)
    assert house.status()[0]["workdir"].endswith("/content/other")
