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


def test_connect_without_words_reconnects_this_project(house: House) -> None:
    first = house.connect("mine")
    again = house.colabdev("connect")
    assert again.returncode == 0, again.stderr
    assert house.record("mine").request_id == first.request_id
    elsewhere = house.home / "elsewhere"
    elsewhere.mkdir()
    assert house.colabdev("connect", cwd=elsewhere).returncode == 10
    # With a provider typed the name is the provider's, as ever.
    assert house.colabdev("connect", "--provider", "local").returncode == 0
    assert house.store.names() == ["local", "mine"]


def test_chosen_python_stays_with_the_name(house: House) -> None:
    connect = ["connect", "--provider", "local", "--python", sys.executable]
    assert house.colabdev(*connect).returncode == 0
    assert house.colabdev(*connect).returncode == 0
    other = house.colabdev("connect", "local", "--python", "/usr/bin/python3")
    assert other.returncode == 2
    assert "a machine keeps its Python" in other.stderr
    house.provider.release("local")
    assert house.colabdev("connect", "local").returncode == 0
    show = ["ssh", "local", "--", "python3 -c 'import sys; print(sys.prefix)'"]
    assert house.colabdev(*show).stdout == f"{sys.prefix}\n"


def test_python_that_is_too_old_is_refused(house: House, tmp_path: Path) -> None:
    old = tmp_path / "python3.6"
    old.write_text('#!/bin/sh\ncase "$2" in *version*) echo False;; *) echo "$0";; esac\n')
    old.chmod(0o755)
    done = house.colabdev("connect", "--provider", "local", "--python", old)
    assert done.returncode == 2
    assert "older than Python 3.8" in done.stderr
    assert house.store.names() == []
