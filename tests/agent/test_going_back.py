"""A new machine to which Drive shows less than was proved: it waits, asks by id, and says so."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_archive import build_agent
from colabdev.agent import environments, ground
from colabdev.agent.restoring import Wanted, restore_from
from colabdev.agent.store_driveapi import DriveApi
from tests.support.carrying import Carried, give_token
from tests.support.colab import Colab
from tests.support.waiting import wait_until


class LateDrive(DriveApi):
    """Drive's API with a listing that lacks the newest, for the first so many looks."""

    def __init__(self, api_url: str, hidden: tuple[str, ...], looks: int = 1000) -> None:
        super().__init__(api_url, "")
        self._hidden = hidden
        self.looks = looks

    def names(self, folder: str) -> list[str]:
        found = super().names(folder)
        if folder.endswith("/checkpoints"):
            self.looks -= 1
        is_late = self.looks > 0
        return [name for name in found if not (is_late and name in self._hidden)]

    def close(self) -> None:
        self._http._hang_up()


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Carried]:
    colab = Colab(tmp_path / "colab")
    place = Carried(tmp_path, build_agent(), stores=("driveapi",), api_url=colab.base_url)
    give_token(colab, place)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLABDEV_MEMORY_DIR", str(tmp_path / "memory"))
    yield place
    place.close()
    colab.stop()


def restored(carried: Carried, store: LateDrive, wait_s: float = 0) -> dict[str, Any]:
    said: list[dict[str, Any]] = []
    to = str(carried.root / "restored")
    with closing(store):
        restore_from(store, Wanted("digits", carried.job, to, None, [1, 20], wait_s), said.append)
    return said[-1]


def test_what_no_listing_shows_is_asked_for_by_id_or_waited_for_and_nothing_older_taken(
    carried: Carried,
) -> None:
    carried.start()
    files = carried.save(10)
    carried.wait_for("1-10", "confirmed")
    files = carried.save(20)
    carried.wait_for("1-20", "confirmed")
    wait_until(lambda: str(carried.events()).count("recorded") == 2, message="not recorded")
    by_id = restored(carried, LateDrive(carried.api_url, ("1-20",)))
    assert (by_id["row"]["name"], by_id["problem"]) == ("1-20", "")
    there = carried.root / "restored" / "step-000020"
    assert {name: (there / name).read_bytes() for name in files} == files
    # Its record is not shown either: then only waiting helps.
    late = ("1-20", "1-20.json")
    behind = restored(carried, LateDrive(carried.api_url, late))
    assert (behind["problem"], behind["row"]["name"], behind["path"]) == ("behind", "1-10", None)
    begun = time.monotonic()
    waited = restored(carried, LateDrive(carried.api_url, late, looks=2), wait_s=30)
    assert (waited["row"]["name"], waited["problem"]) == ("1-20", "")
    assert time.monotonic() - begun < 15
    nothing = restored(carried, LateDrive(carried.api_url, ("1-10", "1-10.json", *late)))
    assert nothing["problem"] == "behind"


def test_ground_of_an_attempt_is_told_and_compared() -> None:
    told = environments.question({"lines": [], "modules": [], "lock": True}, sys.executable)
    assert f"pytest=={pytest.__version__}" in told["lock"]
    t4 = {"gpu": "Tesla T4", "torch": "2.9.0", "python": "3.12.3", "lock": None}
    assert ground.differences(t4, {**t4, "python": "3.12.4"}) == []
    assert ground.differences(t4, {**t4, "gpu": None}) == []
    assert ground.differences({}, t4) == []
    assert ground.differences(t4, {**t4, "gpu": "NVIDIA L4", "torch": "2.10.0"}) == [
        "gpu was Tesla T4, is NVIDIA L4",
        "torch was 2.9.0, is 2.10.0",
    ]
