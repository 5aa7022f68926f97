"""Whose an attempt is: two machines that go on with one job, and what becomes of the second."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_archive import AgentArchive
from colabdev.agent import manifest
from colabdev.agent.arrival import Patience
from colabdev.agent.fence import Claimant, Wish
from colabdev.agent.manifest import Start, is_in_lineage
from colabdev.agent.store_folder import Disk
from colabdev.errors import ColabdevError
from tests.support.carrying import QUICK, Carried
from tests.support.drive.faults import Faults
from tests.support.drive.simulated import FuseDrive
from tests.support.waiting import wait_until

TOKENS = ("5ccccccc", "2aaaaaaa", "9bbbbbbb")
FENCED = {**QUICK, "fence_s": 0.1}


@pytest.fixture
def machines(tmp_path: Path, archive: AgentArchive) -> Iterator[tuple[Carried, Carried]]:
    """Two with one Drive that is a disk; both have the same job, as attempts 1 and 2."""
    first, second = (Carried(tmp_path / name, archive, timing=FENCED) for name in "ab")
    second.drive.rmdir()
    second.drive.symlink_to(first.drive)
    yield first, second
    first.close()
    second.close()


LINEAGE = {
    2: Start(2, 1, 100, "b"),
    3: Start(3, 2, 100, "c"),
    4: Start(4, 3, 250, "d"),
    1: Start(1, None, None, "a"),
}


@pytest.mark.parametrize(
    ("attempt", "step", "runtime", "starts", "expected"),
    [
        (4, 10**9, "d", LINEAGE, True),
        (4, None, "d", LINEAGE, True),
        (3, 250, "c", LINEAGE, True),
        (3, 251, "c", LINEAGE, False),
        (3, None, "c", LINEAGE, False),
        # Attempt 2 came no further than where it began.
        (2, 100, "b", LINEAGE, True),
        (2, 101, "b", LINEAGE, False),
        (1, 100, "a", LINEAGE, True),
        (1, 200, "a", LINEAGE, False),
        # Saved under an attempt's number by a machine that never had it, or that nobody knows.
        (3, 200, "x", LINEAGE, False),
        (3, 200, "", LINEAGE, True),
        # Nobody knows where it began.
        (5, 10, "e", LINEAGE, False),
        # One that began anew ends what was before.
        (1, 100, "", {1: Start(1), 2: Start(2)}, False),
        (2, 100, "", {1: Start(1), 2: Start(2)}, True),
        # One that says it went on from itself or a later one.
        (1, 100, "", {1: Start(1), 2: Start(2, 2, 50)}, False),
        (1, 100, "", {1: Start(1), 2: Start(2, 3, 50)}, False),
        # Attempt 2 is not known, attempt 3 went on from 1.
        (1, 100, "", {1: Start(1), 3: Start(3, 1, 100)}, True),
        (2, 50, "", {1: Start(1), 3: Start(3, 1, 100)}, False),
        (1, 7, "", {}, True),
    ],
)
def test_lineage(
    attempt: int, step: int | None, runtime: str, starts: Mapping[int, Start], expected: bool
) -> None:
    assert is_in_lineage(attempt, step, starts, runtime) is expected


def claim(place: Carried, token: str, **more: object) -> dict[str, Any]:
    """What a machine is told that claims the next attempt."""
    asked = {
        "stores": list(place.stores),
        "drive_dir": str(place.drive),
        "project": "digits",
        "job": place.job,
        "attempt": 2,
        "token": token,
        "runtime": f"machine-{token}",
        "from": {"attempt": 1, "step": 10},
        **more,
    }
    return dict(place.talk().request("job.claim", **asked))


def test_machine_that_was_left_behind_stops_itself_and_what_it_saved_late_counts_for_nobody(
    machines: tuple[Carried, Carried],
) -> None:
    first, second = machines
    first.start()
    first.save(10)
    first.wait_for("1-10", "confirmed")
    first.save(20)
    first.wait_for("1-20", "confirmed")
    second.job, second.attempt = first.job, 2
    assert claim(second, TOKENS[0], runtime="runtime-2") == {"won": True}
    status = first.directory / "status.json"
    wait_until(status.exists, message="its job goes on")
    told = json.loads(status.read_text())
    assert (told["state"], told["reason"]) == ("stopped", "superseded")
    assert "attempt 2" in first.standing()["problems"]["local"]
    # The second goes on from step 10: what the first saved after that is no part of the job.
    second.began = {"attempt": 1, "step": 10}
    second.start(token=TOKENS[0])
    place = {"store": "local", "drive_dir": str(second.drive), "project": "digits"}
    (run,) = second.stream("checkpoint.stored", **place)[-1]["runs"]
    assert [row["name"] for row in run["checkpoints"]] == ["1-10"]
    to = str(second.workdir / "restored")
    asked = {**place, "to": to, "minimum": [1, 10]}
    assert second.stream("checkpoint.restore", **asked)[-1]["row"]["name"] == "1-10"
    second.save(15)
    second.wait_for("2-15", "confirmed")
    # Another machine's under the same number neither.
    folder = second.stored / "checkpoints" / "2-15" / "MANIFEST.json"
    zombie = {**json.loads(folder.read_text()), "runtime": "another", "step": 99, "name": "2-99"}
    (second.stored / "checkpoints" / "2-99").mkdir()
    (second.stored / "checkpoints" / "2-99" / "MANIFEST.json").write_text(json.dumps(zombie))
    assert second.stream("checkpoint.restore", **asked)[-1]["row"]["name"] == "2-15"
    # What was proved is not fallen behind in silence, nor by whoever never heard of it.
    (second.stored / "checkpoints" / "2-15" / "MANIFEST.json").unlink()
    unheard = {**asked, "minimum": None}
    end = second.stream("checkpoint.restore", **unheard, proved=True)[-1]
    assert (end["problem"], end["minimum"], end["row"]["name"]) == ("behind", [2, 15], "1-10")
    assert second.stream("checkpoint.restore", **unheard)[-1]["row"]["name"] == "1-10"
    # The second machine's record is not the third's, whoever claims it.
    assert claim(first, TOKENS[1])["taken"]["runtime"] == "runtime-2"
    assert claim(second, TOKENS[0], attempt=1)["taken"]["attempt"] == 2


def test_attempt_on_a_disk_is_one_claimants_of_many(tmp_path: Path) -> None:
    """Threads, because an agent for each would take longer than all they do."""
    (tmp_path / "drive").mkdir()
    for attempt in range(2, 12):
        tokens = [f"{number}{'x' * 9}" for number in range(6)]
        works = [partial(claimed, Disk(str(tmp_path / "drive")), attempt, one) for one in tokens]
        said = dict(zip(tokens, run_all(works), strict=True))
        winners = [token for token, end in said.items() if "won" in end]
        assert len(winners) == 1, said
        taken = {end["taken"]["token"] for end in said.values() if "taken" in end}
        assert taken == set(winners)
        for token in said:
            again = claimed(Disk(str(tmp_path / "drive")), attempt, token)
            assert ("won" in again) == (token in winners)


def test_claim_that_was_killed_at_any_point_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "drive").mkdir()
    attempts = tmp_path / "drive" / "colabdev" / "digits" / "runs" / "a" / "attempts"
    store = Disk(str(tmp_path / "drive"))
    # After the claim, and in the middle of writing claim and record.
    for number, torn in enumerate(["", "{0}-{1}.json", "{0}.json"], 2):
        if torn:
            attempts.mkdir(parents=True, exist_ok=True)
            (attempts / torn.format(number, TOKENS[0])).write_text('{"att')
        assert claimed(store, number, TOKENS[0])["won"] is True
        record = json.loads((attempts / f"{number}.json").read_text())
        assert (record["attempt"], record["token"]) == (number, TOKENS[0])


def test_claimant_that_died_before_its_record_leaves_the_number_void(tmp_path: Path) -> None:
    """By another token, the lowest one: nobody begins that attempt, and the next is free."""
    attempts = tmp_path / "drive" / "colabdev" / "digits" / "runs" / "a" / "attempts"
    attempts.mkdir(parents=True)
    dead = {"schema": 1, "claims": 2, "token": TOKENS[1], "runtime": "dead", "claimed": 1.0}
    (attempts / f"2-{TOKENS[1]}.json").write_text(json.dumps(dead))
    store = Disk(str(tmp_path / "drive"))
    assert claimed(store, 2, TOKENS[0], dead_s=0.2)["left"] == dead
    assert not (attempts / "2.json").exists()
    assert claimed(store, 3, TOKENS[0])["won"] is True
    # Should it live after all, it finds that it is too late.
    assert claimed(store, 2, TOKENS[1])["taken"]["attempt"] == 3


@pytest.mark.parametrize("lag_s", [pytest.param(0.05, marks=pytest.mark.long), 0.3])
def test_two_machines_with_one_mounted_drive_never_both_win(
    tmp_path: Path, archive: AgentArchive, lag_s: float
) -> None:
    faults = {"delay_s": (0.0, 0.2), "shows_others_s": lag_s}
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "cloud").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "cloud").symlink_to(tmp_path / "one" / "cloud")
    with (
        FuseDrive(tmp_path / "one", faults_of(faults, 1)) as one,
        FuseDrive(tmp_path / "two", faults_of(faults, 2)) as two,
    ):
        places = [
            Carried(tmp_path / name, archive, stores=("drivefs",), job="train-261120-aaaa")
            for name in "ab"
        ]
        for place, drive in zip(places, (one, two), strict=True):
            place.drive.rmdir()
            place.drive.symlink_to(drive.mountpoint)
        for attempt in (2, 3):
            works = [
                partial(claim, place, token, attempt=attempt, settle_s=1.5)
                for place, token in zip(places, TOKENS, strict=False)
            ]
            said = dict(zip(TOKENS, run_all(works), strict=False))
            # The lowest token, unless one had won before the other asked.
            (winner,) = [token for token, told in said.items() if "won" in told]
            (loser,) = [token for token, told in said.items() if "taken" in told]
            assert said[loser]["taken"]["token"] == winner
        # Again, with the same tokens, and by one that comes later.
        assert claim(places[TOKENS.index(winner)], winner, attempt=3, settle_s=0.2) == {"won": True}
        wait_until(
            lambda: "taken" in claim(places[0], TOKENS[2], attempt=2, settle_s=0.0),
            message="a later one wins",
        )
        for place in places:
            place.close()


def test_store_that_is_not_there_tells_nobody_that_he_won(
    tmp_path: Path, archive: AgentArchive
) -> None:
    place = Carried(tmp_path, archive, stores=("drivefs", "pull"), job="train-261120-aaaa")
    place.drive.rmdir()
    with pytest.raises(ColabdevError, match=r"cannot claim attempt 2 .* not mounted"):
        claim(place, TOKENS[0])
    with pytest.raises(ColabdevError, match="no token"):
        claim(place, "../../a-path")
    place.close()


def faults_of(values: Mapping[str, Any], seed: int) -> Faults:
    return Faults(seed=seed, **values)


def claimed(store: Disk, attempt: int, token: str, *, dead_s: float = 30.0) -> dict[str, Any]:
    said: list[dict[str, Any]] = []
    wish = Wish(attempt, token, f"machine-{token}", {})
    folder = manifest.run_folder("digits", "a")
    claimant = Claimant(store, folder, store.lag_s(), Patience(), dead_s=dead_s)
    claimant.claim(wish, said.append)
    return said[-1]


def run_all(works: Sequence[Callable[[], dict[str, Any]]]) -> list[dict[str, Any]]:
    """All at once; what each came to."""
    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(lambda work: work(), works))
