"""Checkpoints as typed, from a trainer on a real sandbox to this computer and back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.drive import trainer
from tests.support.drive.simulated import FuseDrive
from tests.support.house import House
from tests.support.jobs import workdir
from tests.support.terminals import at_terminal
from tests.support.waiting import wait_until

SETTINGS = """
[checkpoints]
dir = "runs/*/checkpoints"
stores = {stores}
{more}
"""
PULL = ["pull.received", "pull.placed"]
"""The crash points of whoever brings a checkpoint here."""
SAFE = re.compile(
    r"local: safe: step \d+ \(CONFIRMED\), \d+ s ago(; would lose (\d+ steps?, )?\d+s)?"
)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path / "house") as house:
        (house.project / "train.py").write_text(Path(trainer.__file__).read_text())
        settle_for(house, "drivefs", "pull")
        house.connect()
        yield house


def settle_for(house: House, *stores: str, more: str = "") -> None:
    text = SETTINGS.format(stores=json.dumps(stores), more=more)
    (house.project / "colabdev.toml").write_text(text)


def type_json(house: House, *words: str, code: int = 0) -> dict[str, Any]:
    done = house.colabdev("checkpoints", *words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def train(house: House) -> str:
    """A job that saves now and then; its id."""
    words = ["runs/a/checkpoints", "100000", "0.4", "runs/a/saved.jsonl"]
    done = house.colabdev("run", "--detach", "--in-place", "train.py", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def listed(house: House) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = type_json(house, "ls")["checkpoints"]
    return rows


def wait_for_one(house: House) -> None:
    wait_until(lambda: listed(house), timeout_s=30, message="no checkpoint is found")


def test_what_is_saved_is_proved_seen_and_survives_the_runtime(house: House) -> None:
    assert listed(house) == []
    job = train(house)
    wait_for_one(house)

    def durable() -> dict[str, Any]:
        return house.status()[0]["durable"] or {}

    # By the keeper alone.
    wait_until(lambda: durable().get("safe"), timeout_s=30, message=house.keeper_log())
    assert (durable()["job"], durable()["level"]) == (job, "confirmed")
    assert SAFE.search(house.colabdev("status").stdout)
    pushed = type_json(house, "push")
    assert (pushed["safe"], pushed["problem"]) == (True, None)
    found = type_json(house, "verify")["checkpoints"]
    assert {row["store"] for row in found} >= {"disk", "here"}
    assert [row for row in found if row["problem"]] == []
    pulled = type_json(house, "pull", job, "--to", "brought")["checkpoint"]
    state = (house.project / "brought" / "state.pt").read_bytes()
    manifest = json.loads((house.project / "brought" / "MANIFEST.json").read_text())
    assert manifest["files"][0]["sha256"] == hashlib.sha256(state).hexdigest()
    assert (manifest["step"], pulled["level"]) == (pulled["step"], "confirmed")
    assert type_json(house, "prune", "--keep", "2", "--dry-run")["dry_run"] is True
    pruned = type_json(house, "prune", "--keep", "2")
    assert list(pruned) == ["schema", "job", "removed", "kept", "dry_run"]
    down = house.colabdev("down")
    assert down.returncode == 0, down.stderr
    assert "is CONFIRMED" in down.stderr
    # The trainer's last one is here; the runtime is gone.
    saved = (house.project / "runs" / "a" / "saved.jsonl").read_text().splitlines()
    newest = listed(house)[0]
    assert (newest["job"], newest["level"], newest["store"]) == (job, "confirmed", "pull")
    assert newest["step"] >= json.loads(saved[-1])["step"]
    copy = Path(newest["path"])
    whole = json.loads((copy / "MANIFEST.json").read_text())["files"][0]["sha256"]
    assert hashlib.sha256((copy / "state.pt").read_bytes()).hexdigest() == whole
    # And from here it comes to the next one, of which half is there already.
    house.connect()
    target = workdir(house).parent / "restored" / job
    part = target / f".receiving-{newest['sha256'][:16]}"
    part.mkdir(parents=True)
    (part / "state.pt").write_bytes((copy / "state.pt").read_bytes()[:50_000])
    restored = type_json(house, "restore")["checkpoint"]
    assert restored["path"] == str(target / f"step-{newest['step']:06}")
    assert (Path(restored["path"]) / "state.pt").read_bytes() == (copy / "state.pt").read_bytes()
    assert not part.exists()
    (copy / "state.pt").write_bytes(b"rot")
    broken = house.colabdev("checkpoints", "restore", "--to", "again")
    assert broken.returncode == 1
    assert "has not its size" in broken.stderr
    assert list((workdir(house).parent / "again").iterdir()) == []


def test_drives_own_word_is_enough_only_for_who_says_so(house: House, tmp_path: Path) -> None:
    my_drive = house.places.local_dir / "drive" / "MyDrive"
    with FuseDrive(tmp_path / "google", at=my_drive) as drive:
        settle_for(house, "drivefs")
        job = train(house)
        wait_for_one(house)
        pushed = type_json(house, "push", code=16)
        assert (pushed["safe"], pushed["checkpoint"]["level"]) == (False, "published")
        assert "nothing is safe yet: step" in house.colabdev("status").stdout
        with at_terminal(house, "down") as terminal:
            terminal.expect(b"all the same? [Y/n]", timeout_s=60)
            terminal.type(b"n\r")
            assert terminal.finish(60) == 16
            said = b" ".join(terminal.output.split())
        assert b"is PUBLISHED" in said
        assert b'accept = "published" takes Drive\'s word' in said
        (status,) = house.status()
        assert (status["state"], status["running_jobs"]) == ("ready", 1)
        settle_for(house, "drivefs", more='accept = "published"')
        down = house.colabdev("down")
        assert down.returncode == 0, down.stderr
        drive.lose_machine()
        drive.mount()
        house.connect()
        # On another machine, which knows of it only what Drive has.
        (one,) = (row for row in listed(house)[:1])
        assert (one["job"], one["level"], one["store"]) == (job, "published", "drivefs")
        restored = type_json(house, "restore", "--to", "back")["checkpoint"]
        path = Path(restored["path"])
        assert (path.parent, restored["name"]) == (workdir(house).parent / "back", one["name"])
        entry = json.loads((path / "MANIFEST.json").read_text())["files"][0]
        assert hashlib.sha256((path / "state.pt").read_bytes()).hexdigest() == entry["sha256"]


def test_pull_killed_goes_on_when_typed_again(house: House) -> None:
    settle_for(house, "drivefs")  # So that the keeper is not faster.
    train(house)
    wait_for_one(house)
    for point in PULL:
        wait_until(
            lambda: listed(house)[0]["level"] != "confirmed", message="no newer one is saved"
        )
        done = house.colabdev("checkpoints", "pull", env={"COLABDEV_CRASH_AT": point})
        assert done.returncode == 137, f"{point} was not reached: {done.stderr}"
        assert type_json(house, "pull")["checkpoint"]["level"] == "confirmed"


def test_down_takes_a_first_checkpoint_that_nobody_has_found_yet(house: House) -> None:
    """A bare file counts once it is left alone for a while; `down` waits for no such while."""
    saves = (
        "mkdir -p runs/a/checkpoints && echo weights > runs/a/checkpoints/model.pt && echo saved"
    )
    job = house.colabdev("run", "--detach", "sh", "-c", f"{saves}; sleep 100").stdout.strip()
    wait_until(lambda: "saved" in house.colabdev("logs", job).stdout, message="it does not save")
    assert listed(house) == []
    down = house.colabdev("down")
    assert down.returncode == 0, down.stderr
    (kept,) = listed(house)
    assert (kept["job"], kept["level"], kept["store"]) == (job, "confirmed", "pull")
    assert (Path(kept["path"]) / "model.pt").read_text() == "weights\n"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("ls nothing", 1, "no job 'nothing' has checkpoints"),
        ("pull", 1, "no job has a checkpoint there"),
        ("push nothing", 1, "no job 'nothing'"),
        ("verify -r nobody", 1, "no runtime is called"),
        ("push --timeout soon", 2, "--timeout takes a number"),
        ("prune --keep 1", 2, "--keep"),
        ("restore", 1, "no checkpoint is stored"),
        ("pull a b c", 2, "unexpected extra argument"),
    ],
)
def test_what_cannot_be_done_is_said(shared: House, words: str, code: int, says: str) -> None:
    done = shared.colabdev("checkpoints", *words.split())
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "next:" in done.stderr


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One with a runtime and no checkpoints, for what does not change it."""
    with House(tmp_path_factory.mktemp("shared")) as house:
        house.connect()
        yield house
