"""What goes wrong with Drive never becomes a false claim, and never stops a trainer or another store."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_archive import AgentArchive
from tests.support.carrying import Carried, give_token
from tests.support.colab import Colab
from tests.support.disks import tiny_disk
from tests.support.drive.simulated import FuseDrive
from tests.support.waiting import wait_until


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[FuseDrive]:
    with FuseDrive(tmp_path) as drive:
        yield drive


@pytest.fixture
def carried(drive: FuseDrive, tmp_path: Path, archive: AgentArchive) -> Iterator[Carried]:
    place = Carried(tmp_path, archive, stores=("drivefs",), accept="published")
    yield place
    drive.set(hangs=False)
    place.close()


@pytest.fixture
def colab(tmp_path: Path) -> Iterator[Colab]:
    with Colab(tmp_path / "colab") as colab:
        yield colab


def problem(carried: Carried, store: str = "drivefs") -> str:
    return str(carried.standing()["problems"].get(store, ""))


def test_newest_wins_when_drive_lags(carried: Carried, drive: FuseDrive) -> None:
    drive.set(stalled=True)
    carried.start()
    carried.save(10)
    carried.wait_for("1-10", "accepted")
    for step in (20, 30, 40, 50):
        carried.save(step)
        carried.wait_for(f"1-{step}", "local")
    told = carried.standing()
    assert (told["is_safe"], told["at_risk_steps"], told["safe"]) == (False, 50, None)
    # The trainer lets its own go; what is not safe yet is held all the same.
    shutil.rmtree(carried.checkpoints / "step-000050")
    drive.set(stalled=False)
    carried.wait_for("1-50", "published")
    order = [row["name"] for row in carried.events() if row["event"] == "sending"]
    assert order[:2] == ["1-10", "1-50"]


def test_hung_dead_full_or_broken_drive_holds_up_nothing_else(
    carried: Carried, drive: FuseDrive, colab: Colab
) -> None:
    carried.stores, carried.api_url = ("drivefs", "driveapi"), colab.base_url
    give_token(colab, carried)
    carried.start("while sleep 0.05; do echo trains; done")
    carried.save(10)
    wait_until(lambda: carried.in_stores("1-10") == BOTH, message="it is not in both")

    def goes_wrong(step: int, words: str, **faults: Any) -> None:
        drive.set(**faults)
        size = (carried.directory / "log").stat().st_size
        carried.save(step)
        carried.wait_for(f"1-{step}", "confirmed")
        wait_until(lambda: words in problem(carried), message=f"{words}: {carried.standing()}")
        assert "drivefs" not in carried.in_stores(f"1-{step}")
        assert (carried.directory / "log").stat().st_size > size, "the trainer stands still"

    goes_wrong(20, "it does not answer", hangs=True)
    goes_wrong(30, "it fails", hangs=False, io_errors=1.0)
    goes_wrong(40, "it is full", io_errors=0.0, quota_bytes=1)
    drive.set(quota_bytes=0)
    wait_until(lambda: carried.in_stores("1-40") == BOTH, timeout_s=20, message=carried.describe())
    drive.crash()
    carried.save(50)
    wait_until(lambda: "has ended" in problem(carried), message=f"{carried.standing()}")
    drive.remount()
    wait_until(lambda: carried.in_stores("1-50") == BOTH, timeout_s=20, message="it is not in both")


BOTH = {"drivefs": "published", "driveapi": "confirmed"}


def test_drive_that_tells_nothing_has_accepted_it_and_no_more(
    carried: Carried, drive: FuseDrive
) -> None:
    drive.set(has_attributes=False)
    carried.start()
    carried.save(10)
    wait_until(
        lambda: [row["unproven"] for row in carried.standing()["checkpoints"]] == [True],
        message="it claims something",
    )
    assert carried.levels() == {"1-10": "accepted"}
    assert carried.standing()["is_safe"] is False
    (last,) = carried.stream("checkpoint.push", name=None, timeout_s=10)[-1:]
    assert (last["is_safe"], last["problem"], last["row"]["unproven"]) == (False, "", True)


def test_mount_is_never_taken_for_a_disk(carried: Carried, drive: FuseDrive) -> None:
    """`local` would call CONFIRMED what it reads back, which on a mount comes from the runtime."""
    drive.set(stalled=True)
    carried.stores, carried.accept = ("local",), "confirmed"
    carried.start()
    carried.save(10)
    wait_until(lambda: "unproven" in str(carried.events()), message="it claims something")
    assert carried.levels() == {"1-10": "accepted"}


def test_what_is_saved_straight_to_a_mount_is_said_and_not_looked_at(
    carried: Carried, drive: FuseDrive
) -> None:
    there = drive.mountpoint / "checkpoints"
    there.mkdir()
    carried.dirs = (str(there), "runs/*/checkpoints")
    drive.set(hangs=True)
    carried.start()
    carried.save(10)
    carried.wait_for("1-10", "local")
    assert carried.standing()["rejected"] == {str(there): "it is on a mount: save to the disk"}


def test_lie_is_found_by_asking_drive_itself(
    carried: Carried, drive: FuseDrive, colab: Colab
) -> None:
    """The mount says of all that it has arrived, with the right hash; Google has no such file."""
    carried.api_url, carried.accept = colab.base_url, "confirmed"
    drive.set(lies=1.0)
    carried.start()
    carried.save(10)
    carried.wait_for("1-10", "published")
    give_token(colab, carried, "drive.readonly")
    wait_until(
        lambda: (
            [row["place"] for row in carried.events() if row["event"] == "sending"][:3]
            == ["1-10", "1-10.2", "1-10.3"]
        ),
        timeout_s=20,
        message="it is not sent again",
    )
    refuted = [row for row in carried.events() if row["event"] == "refuted"]
    assert refuted[0]["why"].endswith("Drive has no such file")
    assert "confirmed" not in str(carried.events())


def test_token_that_ends_stops_nothing_for_good(
    tmp_path: Path, archive: AgentArchive, colab: Colab
) -> None:
    """Without one nothing is lost; a refresh token, in memory only, needs nobody."""
    place = Carried(tmp_path, archive, stores=("driveapi",), api_url=colab.base_url)
    try:
        place.start()
        place.save(10)
        wait_until(lambda: "no token" in problem(place, "driveapi"), message="it needs none")
        told = {"expires": 0.0, "wanted": True, "unattended": False}
        assert place.standing()["token"] == told
        give_token(colab, place, refreshed=True, seconds=0)
        place.wait_for("1-10", "confirmed", timeout_s=20)
        assert place.standing()["token"]["wanted"] is False
        secrets = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
        (kept,) = (tmp_path / "memory" / f"colabdev-{os.getuid()}").iterdir()
        assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        token = colab.requests()  # The stand-in has seen it; no file of the runtime's has.
        assert token
        for word in place.secrets:
            assert not [path for path in secrets if word.encode() in path.read_bytes()]
        # Cut in the middle, and refused for a while: it goes on where it was.
        colab.fault("drive_breaks_upload", 503, 2)
        colab.fault("drive_status", 429, 3)
        place.save(20, 20_000_000)
        place.wait_for("1-20", "confirmed", timeout_s=30)
        place.talk_once("job.stop", id=place.job, grace_s=0)
        wait_until(lambda: not kept.exists(), message="the secret outlives its use")
    finally:
        place.close()


def test_older_ones_make_room_once_something_newer_is_safe(
    tmp_path: Path, archive: AgentArchive
) -> None:
    """A disk that fills: the trainer's own go, but none that may be needed."""
    content = tmp_path / "content"
    content.mkdir()
    with tiny_disk(content, size_kb=8_000):
        place = Carried(tmp_path, archive, keep=2)
        try:
            place.start()
            for step in (10, 20, 30, 40):
                place.save(step, 1_500_000)
                place.wait_for(f"1-{step}", "confirmed")
            left = {"step-000030", "step-000040"}
            wait_until(
                lambda: set(os.listdir(place.checkpoints)) == left, message="others are left"
            )
            place.save(50, 1_500_000)
            place.wait_for("1-50", "confirmed")
            # What is held of a job that has ended is the first to go.
            ended, held = place.job, content / "digits" / ".colabdev" / "checkpoints"
            place.talk_once("job.stop", id=ended, grace_s=0)
            wait_until(lambda: not place.standing()["runs"], message="it does not end")
            shutil.rmtree(place.checkpoints)
            place.checkpoints.mkdir()
            place.job = ""
            place.start()
            place.save(60, 1_500_000)
            place.wait_for("1-60", "confirmed")
            wait_until(lambda: os.listdir(held) == [place.job], message="it is held still")
        finally:
            place.close()
            time.sleep(0.1)
