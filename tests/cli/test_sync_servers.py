"""What sync does, on both kinds of SSH server and with the oldest Python on the runtime."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests.agent.test_tree import HOSTILE
from tests.support.house import House
from tests.support.openssh_house import behind_openssh
from tests.support.pythons import find_pythons
from tests.support.syncing import SyncedFolder, make_synced_folder
from tests.support.watching import Watcher


@pytest.fixture(scope="module", params=["sandbox", "openssh"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    pythons = find_pythons()
    assert "3.8" in pythons, "no Python 3.8 was found, neither on the PATH nor from pyenv"
    with House(tmp_path_factory.mktemp("house")) as house:
        done = house.colabdev("connect", "--provider", "local", "--python", str(pythons["3.8"]))
        assert done.returncode == 0, done.stderr
        with behind_openssh(house) if request.param == "openssh" else nullcontext():
            yield house


@pytest.fixture
def project(house: House, request: pytest.FixtureRequest) -> SyncedFolder:
    return make_synced_folder(house, re.sub(r"\W+", "-", request.node.name))


def test_agent_there_runs_on_the_oldest_python(house: House) -> None:
    done = house.colabdev("ssh", "--", "python3", "-V")
    assert done.stdout.startswith("Python 3.8."), done.stdout + done.stderr


def test_any_name_arrives_and_edits_go_both_ways(project: SyncedFolder) -> None:
    for name in HOSTILE:
        project.write(f"{name}/{name}", os.fsencode(name))
    project.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    (project.local / "link").symlink_to("run.sh")
    (project.local / "checkpoints").mkdir()
    project.sync()
    project.assert_equal()
    assert (project.remote / "checkpoints").is_dir()
    project.write("a.py", "typed here")
    (project.remote / "b.py").write_text("typed there")
    (project.local / HOSTILE[0] / HOSTILE[0]).unlink()
    (project.remote / "run.sh").chmod(0o644)
    (project.remote / "checkpoints").rmdir()
    project.sync()
    project.assert_equal()
    assert (project.local / "b.py").read_text() == "typed there"
    assert not os.access(project.local / "run.sh", os.X_OK) or os.geteuid() == 0
    assert not (project.local / "checkpoints").exists()
    assert project.sync()["actions"] == []


def test_conflict_is_kept_on_both_sides(project: SyncedFolder) -> None:
    project.write("a.py", "1")
    project.sync()
    project.write("a.py", "mine")
    (project.remote / "a.py").write_text("theirs")
    assert [row["path"] for row in project.sync(code=3)["conflicts"]] == ["a.py"]
    assert (project.remote / "a.py").read_text() == "theirs"
    project.sync("--prefer", "remote")
    assert (project.local / "a.py").read_text() == "theirs"


@pytest.mark.parametrize("side", ["local", "remote"])
def test_large_file_goes_whole_then_by_pieces_then_moves(project: SyncedFolder, side: str) -> None:
    noise = random.Random(3).randbytes(6_000_000)
    root = project.local if side == "local" else project.remote
    project.write("first", "so that there is a work dir")
    project.sync()
    (root / "model").write_bytes(noise)
    assert project.sync()["wire_bytes"] > len(noise)
    (root / "model").write_bytes(noise[:3_000_000] + b"inserted" + noise[3_000_000:])
    assert project.sync()["wire_bytes"] < 300_000
    (root / "model").rename(root / "moved")
    assert project.sync()["wire_bytes"] < 10_000
    project.assert_equal()


def test_a_watch_brings_edits_of_both_sides(project: SyncedFolder) -> None:
    project.write("train.py", "print(1)")
    project.write("other.py", "print(0)")
    with Watcher(project) as watcher:
        for number in range(2, 5):
            project.write("train.py", f"print({number})")
            watcher.wait_equal()
            (project.remote / "other.py").write_text(f"print({number})")
            watcher.wait_equal()
        (project.remote / "train.py").unlink()
        watcher.wait_equal()
    assert watcher.events() == []
    assert project.sync()["actions"] == []
