"""Carrying checkpoints off a runtime: what is taken, how far it gets, and what nothing may spoil."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from colabdev.adapters.agent_archive import AgentArchive
from colabdev.errors import ColabdevError
from tests.support.carrying import Carried
from tests.support.house import is_running
from tests.support.pythons import oldest_and_ours
from tests.support.waiting import wait_until

PYTHONS = oldest_and_ours()


@pytest.fixture
def carried(tmp_path: Path, archive: AgentArchive) -> Iterator[Carried]:
    with closing(Carried(tmp_path, archive)) as place:
        yield place


@pytest.fixture(params=list(PYTHONS))
def versioned(
    request: pytest.FixtureRequest, tmp_path: Path, archive: AgentArchive
) -> Iterator[Carried]:
    with closing(Carried(tmp_path, archive, PYTHONS[request.param])) as place:
        yield place


def test_what_has_a_manifest_goes_up_all_levels(versioned: Carried) -> None:
    place = versioned
    place.start()
    files = place.save(10)
    place.wait_for("1-10", "confirmed")
    told = place.standing()
    assert (told["is_safe"], told["at_risk_steps"], told["problems"]) == (True, 0, {})
    stored = place.stored / "checkpoints" / "1-10"
    assert {name: (stored / name).read_bytes() for name in files} == files
    events = [row.get("level") or row["event"] for row in place.events()]
    levels = ["accepted", "committed", "published", "confirmed"]
    assert events[:6] == ["found", "sending", *levels]
    wait_until((place.stored / "confirmed" / "1-10.json").exists, message="no record")
    assert (place.stored / "run.json").exists()
    assert (place.stored / "attempts" / "1.json").exists()


def test_what_a_trainer_writes_over_is_held_as_it_was(carried: Carried) -> None:
    """Bare files: no manifest, the same name again and again, and gone before they are carried."""
    carried.start()
    last = carried.checkpoints / "last.pt"
    names = []
    for number in range(3):
        last.write_bytes(bytes([number]) * 50_000)
        (row,) = wait_until(
            lambda: [one for one in carried.standing()["checkpoints"] if one["name"] not in names],
            message="it is not found",
        )
        assert (row["step"], row["name"].startswith("1-last-")) == (None, True)
        names.append(row["name"])
    (carried.checkpoints / "model_7.pth").write_bytes(b"7" * 50_000)
    wait_until(lambda: "1-7" in carried.levels(), message="it is not found")
    last.unlink()
    (carried.checkpoints / "model_7.pth").unlink()
    carried.wait_for("1-7", "confirmed")
    for number, name in enumerate(names[1:], 1):
        carried.wait_for(name, "confirmed")
        content = (carried.stored / "checkpoints" / name / "last.pt").read_bytes()
        assert content == bytes([number]) * 50_000
    # What came after a step and tells none is newer than that step.
    last.write_bytes(b"after 7")
    wait_until(
        lambda: carried.standing()["newest"]["name"].startswith("1-last-"),
        message="it is not the newest",
    )


def test_checkpoint_that_is_not_what_its_manifest_says_is_none(carried: Carried) -> None:
    carried.start()
    carried.save(10)
    carried.wait_for("1-10", "confirmed")
    shutil.copytree(carried.checkpoints / "step-000010", carried.checkpoints / ".step")
    (carried.checkpoints / ".step" / "state.pt").write_bytes(b"torn")
    os.utime(carried.checkpoints / ".step" / "MANIFEST.json")
    (carried.checkpoints / ".step").rename(carried.checkpoints / "step-000020")
    told = wait_until(lambda: carried.standing()["rejected"], message="it is not rejected")
    assert told == {"step-000020": "state.pt is not what its manifest says"}
    assert list(carried.levels()) == ["1-10"]


def test_carrier_lives_on_when_the_job_is_stopped_and_ends_when_all_is_safe(
    carried: Carried,
) -> None:
    shutil.rmtree(carried.drive)
    carried.start()
    carried.save(10)
    carried.wait_for("1-10", "local")
    pid = carried.carrier()
    begun = time.monotonic()
    carried.talk_once("job.stop", id=carried.job, grace_s=1)
    assert time.monotonic() - begun < 8, "it waited for the carrier"
    assert is_running(pid)
    told = wait_until(
        lambda: (told := carried.standing())["problems"] and told, message="nothing is said"
    )
    assert "not mounted" in told["problems"]["local"]
    assert (told["is_safe"], told["at_risk_steps"], told["safe"]) == (False, 10, None)
    # Killed now, nobody supervises it: whoever asks next starts another.
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid), message="it lives")
    carried.drive.mkdir()
    wait_until(lambda: carried.standing()["is_safe"], timeout_s=20, message=carried.describe())
    wait_until(lambda: not carried.standing()["runs"], message="it does not end")
    told = carried.standing()
    assert (told["state"], told["at_risk_steps"], told["at_risk_s"]) == ("ended", 0, 0.0)


def test_what_was_changed_after_it_was_hashed_is_not_carried(carried: Carried) -> None:
    """A trainer that writes into a checkpoint that has its manifest: the held file is the same."""
    shutil.rmtree(carried.drive)
    carried.start()
    carried.save(10)
    carried.wait_for("1-10", "local")
    with (carried.checkpoints / "step-000010" / "state.pt").open("r+b") as file:
        file.write(b"other weights")
    carried.drive.mkdir()
    wait_until(lambda: carried.levels() == {}, timeout_s=20, message=carried.describe())
    assert "state.pt changed on the runtime's disk" in str(carried.events())
    carried.save(20)
    carried.wait_for("1-20", "confirmed")
    assert not carried.is_in_store("1-10")


def test_later_attempt_elsewhere_ends_ours(carried: Carried) -> None:
    """Two machines with one job: the one that is left behind brings nothing any more."""
    carried.start()
    carried.save(10)
    carried.wait_for("1-10", "confirmed")
    (carried.stored / "attempts" / "2.json").write_text(json.dumps({"attempt": 2}))
    carried.save(20)
    wait_until(
        lambda: "attempt 2" in carried.standing()["problems"].get("local", ""),
        message=carried.describe(),
    )
    assert carried.levels().get("1-20", "local") == "local"  # If it was looked at before the end.
    assert not (carried.stored / "checkpoints" / "1-20").exists()


def test_copy_that_somebody_verified_confirms_it(carried: Carried) -> None:
    """What `pull` does, by its requests; what is confirmed is written down in the store, too."""
    carried.stores = ("drivefs", "pull")
    carried.start()
    files = carried.save(10)
    carried.wait_for("1-10", "accepted")
    assert carried.standing()["is_safe"] is False
    talk = carried.talk()
    place = {"job": carried.job, "name": "1-10"}
    row = talk.request("checkpoint.manifest", **place)["row"]
    offset = len(files["state.pt"]) - 100
    frames = list(talk.stream("checkpoint.fetch", **place, path="state.pt", offset=offset))
    assert frames[0][0] == {"size": len(files["state.pt"])}
    assert b"".join(body for _, body in frames) == files["state.pt"][offset:]
    with pytest.raises(ColabdevError, match="another content"):
        talk.request("checkpoint.confirm", **place, sha256="0" * 64)
    with pytest.raises(ColabdevError, match="leads out"):
        talk.request("checkpoint.fetch", **place, path="../secret", offset=0)
    talk = carried.talk()
    talk.request("checkpoint.confirm", **place, sha256=row["sha256"])
    told = carried.standing()
    assert (told["is_safe"], told["safe"]["store"]) == (True, "pull")


def test_pruning_leaves_the_newest_the_best_and_the_safe(carried: Carried) -> None:
    carried.keep = 5
    carried.start()
    for step in (10, 20, 30, 40, 50):
        carried.save(step, best=step == 20)
        carried.wait_for(f"1-{step}", "confirmed")
    would = carried.talk_once("checkpoint.prune", job=carried.job, keep=2, check_only=True)
    assert {name for name, _, _ in would["removed"]} == {"1-10", "1-30"}
    assert len(carried.levels()) == 5
    carried.talk_once("checkpoint.prune", job=carried.job, keep=1)
    left = {"1-20", "1-40", "1-50"}
    checkpoints = carried.stored / "checkpoints"
    wait_until(lambda: set(os.listdir(checkpoints)) == left, message="they are still there")
    assert set(carried.levels()) == left
