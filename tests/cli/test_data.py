"""Data sets, from a folder here over Drive to the runtime's own disk, as typed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.packing import open_data_folder
from colabdev.agent import shards
from colabdev.errors import AgentUnusable
from tests.agent.test_tree import HOSTILE
from tests.cli.test_restore import drive_of, type_json
from tests.support.disks import tiny_disk
from tests.support.house import House
from tests.support.pythons import find_python
from tests.support.relay import Relay
from tests.support.syncing import look
from tests.support.waiting import wait_until
from tests.test_sync_campaign import agents

PUSH_KEYS = ["schema", "name", "content", "files", "bytes", "shards", "sent", "level", "problems"]
PULL_KEYS = ["schema", "name", "content", "path", "files", "bytes", "copied"]
LIST_KEYS = ["name", "content", "files", "bytes", "shards", "pushed"]
SMALL = ("--shard-size", "50k")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("house")) as house:
        house.connect()
        yield house


@pytest.fixture
def folder(house: House, request: pytest.FixtureRequest) -> Path:
    """A data set of its own for each test, of the test's name: some 12 shards of 50 kB."""
    name: str = request.node.name
    dice = random.Random(name)
    folder = house.home / name.removeprefix("test_").replace("_", "-")[:60]
    for number in range(100):
        file = folder / f"class {number % 3}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(dice.randbytes(dice.choice([0, 100, 20_000])))
    return folder


def on_drive(house: House, folder: Path) -> Path:
    """The one version of the data set on Drive."""
    (version,) = (drive_of(house) / "colabdev" / "data" / folder.name).iterdir()
    return version


def shards_of(version: Path) -> list[Path]:
    return sorted(version.glob("*/*.tar"))


def local_disk(house: House) -> Path:
    machine = house.record().machine
    assert machine is not None
    return Path(machine.content_dir)


def push(house: House, folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    return type_json(house, "data", "push", str(folder), *(words or SMALL), code=code)


def pull(house: House, folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    return type_json(house, "data", "pull", folder.name, *words, code=code)


def test_folder_goes_to_drive_and_to_the_disk(house: House, folder: Path) -> None:
    for name in HOSTILE:
        (folder / "hostile" / name / name).parent.mkdir(parents=True)
        (folder / "hostile" / name / name).write_bytes(os.fsencode(name))
    (folder / "class 0" / "link").symlink_to("../class 1/1.bin")
    (folder / "class 1" / "1.bin").chmod(0o755)
    pushed = push(house, folder)
    assert list(pushed) == PUSH_KEYS
    assert (pushed["problems"], pushed["level"]) == ([], "accepted")
    assert pushed["sent"]["shards"] == pushed["shards"] > 8
    assert pushed["files"] == len(look(folder))
    pulled = pull(house, folder)
    assert list(pulled) == PULL_KEYS
    assert pulled["path"] == str(local_disk(house) / "data" / folder.name)
    assert look(Path(pulled["path"])) == look(folder)
    assert pulled["copied"]["shards"] == pushed["shards"]
    # Again: nothing travels.
    assert push(house, folder)["sent"] == {"shards": 0, "bytes": 0}
    assert pull(house, folder)["copied"] == {"shards": 0, "bytes": 0}
    listed = type_json(house, "data", "ls")["data"]
    (mine,) = [row for row in listed if row["name"] == folder.name]
    assert list(mine) == LIST_KEYS
    assert mine["content"] == pushed["content"] == pulled["content"]


def test_shards_are_plain_tars_in_folders_that_stay_small(house: House, folder: Path) -> None:
    for number in range(20):
        (folder / f"z{number}").write_bytes(bytes(9_000))
    push(house, folder, "--shard-size", "10k")
    version = on_drive(house, folder)
    found = shards_of(version)
    assert len(found) > 50
    for place in [version, *(path for path in version.iterdir() if path.is_dir())]:
        assert len(list(place.iterdir())) < 100
    names = []
    for path in found:
        with tarfile.open(path) as packed:
            names += packed.getnames()
    assert names == sorted(names)
    assert set(names) == set(look(folder))


def test_what_changed_is_another_version_and_the_old_one_stays(house: House, folder: Path) -> None:
    first = push(house, folder)
    pull(house, folder)
    (folder / "class 0" / "0.bin").write_text("changed")
    second = push(house, folder)
    assert first["content"] != second["content"]
    refused = house.colabdev("data", "pull", folder.name)
    assert refused.returncode == 1
    assert "another version of it is there" in refused.stderr
    there = pull(house, folder, "--to", "elsewhere/new")
    assert (Path(there["path"]) / "class 0" / "0.bin").read_text() == "changed"
    old = pull(house, folder, "--to", "elsewhere/old", "--version", first["content"][:8])
    assert (Path(old["path"]) / "class 0" / "0.bin").read_bytes() != b"changed"


def test_touched_files_are_the_same_data_set(house: House, folder: Path) -> None:
    first = push(house, folder)
    for file in folder.rglob("*.bin"):
        os.utime(file, (1, 1))
    assert push(house, folder)["content"] == first["content"]


def test_push_that_is_cut_again_and_again_arrives(house: House, folder: Path) -> None:
    (folder / "large").write_bytes(random.Random(3).randbytes(3_000_000))
    record = house.record()
    machine = record.machine
    assert machine is not None
    sent, cuts = 0, 0
    with Relay(machine.ssh.host, machine.ssh.port, bits_per_s=80e6) as relay:
        through = replace(machine, ssh=replace(machine.ssh, port=relay.port))
        house.change(lambda known: replace(known, machine=through))
        house.end_keeper()
        try:
            house.keeper().wait_ready(20)
            for budget in (150_000, 900_000, 700_000, 500_000):
                relay.cut_after(budget)
                done = house.colabdev("data", "push", str(folder), *SMALL)
                assert done.returncode in (0, 12), done.stderr
                cuts += done.returncode == 12
                relay.accept()
                house.keeper().wait_ready(20)
            before = relay.bytes_up
            pushed = push(house, folder)
            sent = relay.bytes_up - before
        finally:
            house.change(lambda known: replace(known, machine=machine))
            house.end_keeper()
    assert cuts >= 3
    total = sum(path.stat().st_size for path in shards_of(on_drive(house, folder)))
    assert sent < total * 0.75, "what had arrived was sent again"
    assert pushed["sent"]["shards"] < pushed["shards"]
    assert look(Path(pull(house, folder)["path"])) == look(folder)


def test_pull_that_is_killed_again_and_again_arrives_whole_or_not(
    house: House, folder: Path
) -> None:
    dice = random.Random(4)
    for number in range(12):
        (folder / f"large {number}").write_bytes(dice.randbytes(2_000_000))
    push(house, folder, "--shard-size", "2M")
    target = local_disk(house) / "data" / folder.name
    listing = target.parent / f".{folder.name}.colabdev" / "shards"
    killed = 0
    for _ in range(4):
        command = subprocess.Popen(
            [sys.executable, "-m", "colabdev", "data", "pull", folder.name],
            cwd=house.project,
            env=house.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        before = rows_in(listing)
        while command.poll() is None and rows_in(listing) <= before:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.02))
        killed += kill_agents(house)
        command.kill()
        command.wait()
        assert not target.exists() or look(target) == look(folder)
    assert killed >= 4
    wait_until(lambda: answers(house), message="the last agent that was killed is replaced")
    document = pull(house, folder)
    assert look(target) == look(folder)
    assert document["copied"]["shards"] < 13, "what was there was copied again"


def answers(house: House) -> bool:
    """Whether an agent starts; one that was killed as it did is said to whoever waits for it."""
    try:
        house.keeper().wait_ready(20)
    except AgentUnusable:
        return False
    return True


def rows_in(listing: Path) -> int:
    """How many shards the pull has finished."""
    return len(list(listing.glob("*[0-9]")))


def kill_agents(house: House) -> int:
    """kill -9 every agent of the house's sandbox, and say how many; the keeper starts others."""
    found = agents(house)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(found)


def test_flipped_bit_in_a_shard_is_found_and_mended_by_another_push(
    house: House, folder: Path
) -> None:
    pushed = push(house, folder)
    victim = shards_of(on_drive(house, folder))[3]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 4
    victim.write_bytes(content)
    done = house.colabdev("data", "pull", folder.name)
    assert done.returncode == 1
    assert "it is not what was pushed" in done.stderr
    assert "sends that shard again" in done.stderr
    assert not (local_disk(house) / "data" / folder.name).exists()
    again = push(house, folder)
    assert (again["content"], again["sent"]["shards"]) == (pushed["content"], 1)
    # The damaged one is left where it is: nothing on Drive is written twice.
    assert victim.read_bytes() == content
    assert victim.with_name(victim.stem + "-2.tar").exists()
    assert look(Path(pull(house, folder)["path"])) == look(folder)


def test_data_set_without_its_index_is_none(house: House, folder: Path) -> None:
    push(house, folder)
    index = on_drive(house, folder) / "index.json"
    torn = index.read_bytes()[:100]
    index.unlink()
    assert house.colabdev("data", "pull", folder.name).returncode == 1
    index.write_bytes(torn)
    assert house.colabdev("data", "pull", folder.name).returncode == 1
    assert push(house, folder)["sent"]["shards"] == 0
    assert index.read_bytes() == torn
    assert look(Path(pull(house, folder)["path"])) == look(folder)


def test_damaged_copy_is_mended_from_drive(house: House, folder: Path) -> None:
    push(house, folder)
    target = Path(pull(house, folder)["path"])
    (target / "class 1" / "1.bin").write_text("scribble")
    (target / "class 2" / "2.bin").unlink()
    (target / "mine").write_text("mine")
    assert 1 <= pull(house, folder)["copied"]["shards"] <= 2
    assert (target / "mine").read_text() == "mine"
    (target / "mine").unlink()
    assert look(target) == look(folder)


def test_disk_without_room_is_told_before_anything_is_copied(house: House, folder: Path) -> None:
    push(house, folder)
    place = local_disk(house) / "tiny"
    place.mkdir()
    with tiny_disk(place, size_kb=300):
        done = house.colabdev("data", "pull", folder.name, "--to", "tiny/set")
        assert done.returncode == 1, done.stderr
        assert "are free there" in done.stderr
        assert not (place / "set").exists()


def test_full_drive_loses_nothing_that_came(house: House, folder: Path) -> None:
    data = drive_of(house) / "colabdev" / "data" / folder.name
    data.mkdir(parents=True)
    with tiny_disk(data, size_kb=400):
        done = house.colabdev("data", "push", str(folder), *SMALL)
        assert done.returncode == 1, done.stderr
        assert "No space left" in done.stderr
        (version,) = data.iterdir()
        kept = data.parent / "kept"
        shutil.copytree(version, kept)
    shutil.move(kept, data / version.name)
    assert len(shards_of(data / version.name)) > 3
    assert push(house, folder)["sent"]["shards"] < 22
    assert look(Path(pull(house, folder)["path"])) == look(folder)


def test_places_that_are_no_folder_of_its_own_are_refused(house: House, folder: Path) -> None:
    push(house, folder)
    (local_disk(house) / "mine").mkdir()
    (local_disk(house) / "mine" / "file").write_text("mine")
    for to, says in (("/", "cannot pull to"), ("mine", "something else is there")):
        done = house.colabdev("data", "pull", folder.name, "--to", to)
        assert done.returncode == 1, done.stderr
        assert says in done.stderr
    assert look(local_disk(house) / "mine") == {"file": ("file", False, b"mine")}


def test_oldest_python_of_a_runtime_will_do(folder: Path, tmp_path: Path) -> None:
    python = find_python("3.8")
    if python is None:
        pytest.fail("no Python 3.8 was found, neither on the PATH nor from pyenv")
    with House(tmp_path / "old") as old:
        done = old.colabdev("connect", "--provider", "local", "--python", python)
        assert done.returncode == 0, done.stderr
        push(old, folder)
        assert look(Path(pull(old, folder)["path"])) == look(folder)


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    for number in range(3_000):
        (tmp_path / "set" / f"{number % 10}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / f"{number % 10}" / f"{number}").write_bytes(b"%d" % number)
    with open_data_folder(tmp_path / "set", 1_000_000) as folder:
        plan = folder.plan(lambda _: None)
        assert plan.files == 3_000
        for shard in plan.shards:
            assert sum(len(piece) for piece in folder.read(shard, 0)) == shard.size
            tail = b"".join(folder.read(shard, 1_500))
            assert tail == b"".join(folder.read(shard, 0))[1_500:]
        assert len(plan.shards) == 4
        assert plan.content == shards.content_id(plan.shards)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("data push nowhere", 2, "it is no folder"),
        ("data push empty", 2, "there is no file in it"),
        ("data push empty --name a/b", 2, "as a data set's name"),
        ("data push empty --shard-size 1", 2, "cannot make shards"),
        ("data push empty --shard-size x", 2, "is no size"),
        ("data pull nothing", 1, "no data set 'nothing' is on Drive"),
        ("data pull ../x", 2, "as a data set's name"),
        ("data pull x --version zz", 1, "no data set 'x'"),
        ("data ls -r nobody", 1, "no runtime is called"),
        ("data", 2, ""),
    ],
)
def test_what_cannot_be_done_is_said(house: House, words: str, code: int, says: str) -> None:
    (house.project / "empty").mkdir(exist_ok=True)
    done = house.colabdev(*words.split())
    assert done.returncode == code, done.stderr
    assert says in done.stderr


def test_links_that_lead_out_and_sockets_are_named(house: House, folder: Path) -> None:
    (folder / "out").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    problems = push(house, folder, code=3)["problems"]
    assert [problem["path"] for problem in problems] == ["fifo", "out"]
