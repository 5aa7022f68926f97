"""kill -9 of a carrier before and after each line of its journal: nothing is claimed that is not so, and
the next one goes on until everything is safe."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from colabdev.adapters.agent_archive import AgentArchive
from colabdev.agent import manifest
from colabdev.crash_points import CRASH_POINTS
from tests.support.carrying import Carried

CARRYING = sorted(point for point in CRASH_POINTS if point.startswith("checkpoint."))


@pytest.fixture
def carried(tmp_path: Path, archive: AgentArchive) -> Iterator[Carried]:
    place = Carried(tmp_path, archive, keep=2)
    place.lay_out()
    yield place
    place.close()


SHORT = [point for point in CARRYING if point.endswith("_written")]


@pytest.mark.parametrize(
    "point",
    [pytest.param(one, marks=[] if one in SHORT else pytest.mark.long) for one in CARRYING],
)
def test_carrier_killed_claims_nothing_false_and_goes_on(carried: Carried, point: str) -> None:
    best, marker = prepare(carried, point)
    armed = carried.root / "armed"
    armed.touch()
    for step in (10, 20, 30, 40):
        carried.save(step)
        if point.startswith(("checkpoint.removed", "checkpoint.gone")) and step < 40:
            # So that there is something to take away when the last one is safe.
            assert carried.run() == 0
    assert carried.run(COLABDEV_CRASH_AT=f"{point}@{armed}") == 137
    assert_claims_hold(carried)
    assert carried.run() == 0
    marker.set()
    assert_claims_hold(carried)
    claims = carried.claims()
    assert next(one.level for one in claims.newest_first()) == best
    # What is not claimed is not there either: nothing was forgotten in the store.
    places = {one.place for checkpoint in claims.newest_first() for one in checkpoint.tries}
    assert set(os.listdir(carried.stored / "checkpoints")) == places
    assert set(os.listdir(carried.workdir / ".colabdev" / "checkpoints" / carried.job)) == {
        one.name for one in claims.newest_first() if one.is_local
    }


def prepare(carried: Carried, point: str) -> tuple[str, threading.Event]:
    """A store in which that happens; the level that is reached in the end."""
    done = threading.Event()
    if "unproven" in point or "refuted" in point:
        carried.stores = ("drivefs",)
        (carried.directory / "spec.json").unlink()
        (carried.directory / "status.json").unlink()
        carried.directory.rmdir()
        carried.lay_out()
    if "failed" in point:
        torn = carried.stored / "checkpoints" / "1-40" / "state.pt"
        torn.parent.mkdir(parents=True)
        torn.write_text("of somebody who was killed")
    if "refuted" in point:
        threading.Thread(target=mark, args=(carried, done), daemon=True).start()
        return manifest.PUBLISHED, done
    return manifest.ACCEPTED if "unproven" in point else manifest.CONFIRMED, done


def mark(carried: Carried, done: threading.Event) -> None:
    """Be Drive: say of each file that it has arrived, and of the first try that it is another."""
    while not done.wait(0.01):
        for folder, _, names in os.walk(carried.stored):
            for path in (os.path.join(folder, name) for name in names):
                with contextlib.suppress(OSError):  # It was taken away.
                    md5 = manifest.digests(path).md5
                    told = {"md5": "0" * 32 if folder.endswith("/1-40") else md5, "id": "1x"}
                    for name, value in {**told, "uncommitted": "0"}.items():
                        os.setxattr(path, f"user.drive.{name}", value.encode())


def assert_claims_hold(carried: Carried) -> None:
    for checkpoint in carried.claims().newest_first():
        for standing in checkpoint.tries:
            if not standing.is_over and standing.level in ("published", "confirmed"):
                assert carried.is_in_store(standing.place), (checkpoint.name, standing)
        if checkpoint.is_local:
            held = carried.workdir / ".colabdev" / "checkpoints" / carried.job / checkpoint.name
            text = carried.directory / "checkpoints" / "manifests" / f"{checkpoint.name}.json"
            assert manifest.damage(str(held), manifest.parse(text.read_bytes())) is None
