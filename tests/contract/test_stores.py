"""Every store of checkpoints, asked through the agent: what it claims it has, and gives back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_archive import AgentArchive, build_agent
from colabdev.agent import manifest
from tests.support.carrying import Carried, give_token
from tests.support.colab import Colab
from tests.support.drive.simulated import FORMS, SimulatedDrive
from tests.support.waiting import wait_until

FOLDER = "colabdev/digits/runs"


class Shelf:
    """A store, as the world sees it: first of all a directory."""

    name, best = "local", "confirmed"
    api_url = ""

    def __init__(self, root: Path) -> None:
        self._top = root / "drive"

    def prepare(self, carried: Carried) -> None:
        """Tell the runtime what it must know."""

    def files(self) -> list[tuple[str, str]]:
        """Path and a name of the content of all that is there."""
        found = [path for path in self._top.rglob("*") if path.is_file()]
        return [(str(path.relative_to(self._top)), str(path.stat().st_ino)) for path in found]

    def damage(self, path: str) -> None:
        """One bit of that file is another from now on."""
        flip(self._top / path)

    def next_machine(self) -> None:
        """What a new machine needs to see it."""

    def close(self) -> None:
        """Nothing is left of it."""


class MountShelf(Shelf):
    name, best = "drivefs", "published"

    def __init__(self, drive: SimulatedDrive) -> None:
        self._drive = drive

    def files(self) -> list[tuple[str, str]]:
        return [(file.path, file.id) for file in self._drive.cloud.files()]

    def damage(self, path: str) -> None:
        flip(self._drive.cloud.content(self._drive.cloud.named(path)[0]))

    def next_machine(self) -> None:
        self._drive.lose_machine()
        self._drive.mount()

    def close(self) -> None:
        self._drive.lose_machine()


class ApiShelf(Shelf):
    name, best = "driveapi", "confirmed"

    def __init__(self, root: Path) -> None:
        self._root = root
        self.colab = Colab(root / "colab")
        self.api_url = self.colab.base_url

    def prepare(self, carried: Carried) -> None:
        give_token(self.colab, carried)

    def files(self) -> list[tuple[str, str]]:
        rows = {row["id"]: row for row in self.colab.drive()}

        def path_of(row: dict[str, Any]) -> str:
            parent = rows.get(row["parents"][0])
            return f"{path_of(parent)}/{row['name']}" if parent else str(row["name"])

        return [(path_of(row), str(row["id"])) for row in rows.values() if "size" in row]

    def damage(self, path: str) -> None:
        (file_id,) = [found for name, found in self.files() if name == path]
        (blob,) = self._root.glob(f"colab/drive/*/{file_id}")
        flip(blob)

    def close(self) -> None:
        self.colab.stop()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def archive() -> AgentArchive:
    return build_agent()


def stores(*always: str) -> list[Any]:
    """All of them, but for what is always tried only at length."""
    known = ["local", "driveapi", *FORMS]
    return [pytest.param(one, marks=[] if one in always else pytest.mark.long) for one in known]


@pytest.fixture
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    made: Shelf
    if request.param in FORMS:
        made = MountShelf(FORMS[request.param](tmp_path))
    else:
        made = {"local": Shelf, "driveapi": ApiShelf}[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def carried(shelf: Shelf, tmp_path: Path, archive: AgentArchive) -> Iterator[Carried]:
    place = Carried(
        tmp_path, archive, stores=(shelf.name,), api_url=shelf.api_url, accept=shelf.best
    )
    shelf.prepare(place)
    yield place
    place.close()


def place_of(shelf: Shelf, carried: Carried) -> dict[str, Any]:
    drive = str(carried.drive)
    return {"store": shelf.name, "drive_dir": drive, "api_url": shelf.api_url, "project": "digits"}


def bring(shelf: Shelf, carried: Carried, to: Path, **more: object) -> dict[str, Any]:
    """The end of `checkpoint.restore`."""
    last = carried.stream("checkpoint.restore", to=str(to), **place_of(shelf, carried), **more)[-1]
    assert last["end"]
    return last


@pytest.mark.parametrize("shelf", stores("local", "driveapi", "fuse"), indirect=True)
def test_store_keeps_what_it_claims_and_gives_it_back(
    shelf: Shelf, carried: Carried, tmp_path: Path
) -> None:
    carried.start()
    saved = {}
    for step in range(10, 60, 10):
        saved[step] = carried.save(step, 300_000, best=step == 10)
        carried.wait_for(f"1-{step}", shelf.best)
    before = dict(shelf.files())
    # The last three, and the best: nothing else is left once it was tidied up.
    kept = {"1-10", "1-30", "1-40", "1-50"}
    wait_until(lambda: stored_names(shelf) == kept, message="something else is left")
    assert {row["name"] for row in carried.standing()["checkpoints"]} == kept
    after = shelf.files()
    assert len(dict(after)) == len(after), "a name was given twice"
    assert all(before[path] == name for path, name in after if path in before), "written over"

    shelf.next_machine()
    (run,) = carried.stream("checkpoint.stored", **place_of(shelf, carried))[-1]["runs"]
    assert {row["name"] for row in run["checkpoints"]} == kept
    assert [start["attempt"] for start in run["starts"]] == [1]
    assert run["run"]["job"] == carried.job
    if shelf.best == "confirmed":
        assert {row["name"]: row["level"] for row in run["checkpoints"]}["1-50"] == "confirmed"
    there = bring(shelf, carried, tmp_path / "back")
    assert (there["problem"], there["row"]["name"]) == ("", "1-50")
    back = tmp_path / "back" / "step-000050"
    assert {name: (back / name).read_bytes() for name in saved[50]} == saved[50]
    assert manifest.read(str(back)).step == 50

    # What was damaged is said to be, and an older one comes instead; never below the high-water mark.
    shelf.damage(f"{FOLDER}/{carried.job}/checkpoints/1-50/state.pt")
    shelf.next_machine()
    older = bring(shelf, carried, tmp_path / "older")
    assert (older["row"]["name"], older["rejected"][0][0]) == ("1-40", "1-50")
    behind = bring(shelf, carried, tmp_path / "behind", minimum=[1, 50])
    assert (behind["problem"], behind["path"]) == ("behind", None)
    assert bring(shelf, carried, tmp_path / "named", name="1-10")["row"]["step"] == 10


def stored_names(shelf: Shelf) -> set[str]:
    """The checkpoints that are in the store, whole or not."""
    parts = [path.split("/") for path, _ in shelf.files()]
    return {part[5] for part in parts if len(part) > 6 and part[4] == "checkpoints"}


@pytest.mark.parametrize("shelf", stores("driveapi"), indirect=True)
def test_try_that_was_killed_is_gone_on_with(shelf: Shelf, carried: Carried) -> None:
    """kill -9 of the carrier while it uploads: whatever stands there then, the claim is true."""
    carried.start()
    carried.save(10, 8_000_000)
    for _ in range(2):
        pid = carried.carrier()
        wait_until(lambda: "sending" in str(carried.events()), message="nothing is sent")
        os.kill(pid, 9)
        wait_until(partial(is_another, carried, pid), timeout_s=20, message="it stays dead")
    carried.wait_for("1-10", shelf.best, timeout_s=30)
    place = carried.standing()["checkpoints"][0]["path"]
    wait_until(lambda: stored_names(shelf) == {place}, message=f"{shelf.files()}")
    frames = carried.stream("checkpoint.verify", names=None)
    assert [frame.get("problem", "") for frame in frames] == ["", "", ""]


def is_another(carried: Carried, pid: int) -> bool:
    return carried.carrier() != pid
