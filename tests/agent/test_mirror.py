"""The daemon that keeps a project on Drive: what it stores, when, and what it survives."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_archive import AgentArchive
from tests.support.disks import tiny_disk
from tests.support.house import is_running
from tests.support.mirrors import QUICK, Mirrored
from tests.support.pythons import oldest_and_ours
from tests.support.read_only import read_only_mount
from tests.support.waiting import wait_until

PYTHONS = oldest_and_ours()
PATIENT = {**QUICK, "settle_s": 60.0}


@pytest.fixture
def place(tmp_path: Path, archive: AgentArchive) -> Iterator[Mirrored]:
    with closing(Mirrored(tmp_path, archive)) as place:
        yield place


@pytest.fixture(params=list(PYTHONS))
def versioned(
    request: pytest.FixtureRequest, tmp_path: Path, archive: AgentArchive
) -> Iterator[Mirrored]:
    with closing(Mirrored(tmp_path, archive, PYTHONS[request.param])) as place:
        yield place


def flush(place: Mirrored, timeout_s: float = 20) -> dict[str, Any]:
    """`mirror.flush`; its last frame."""
    arguments = {"workdir": str(place.workdir), "drive_dir": str(place.drive)}
    *_, (last, _) = place.talk().stream("mirror.flush", timeout_s=timeout_s, **arguments)
    return dict(last)


def test_an_edit_on_the_machine_is_stored_once_it_settled(versioned: Mirrored) -> None:
    place = versioned
    place.sync({"a.py": "1", "b.py": "1"})
    place.ask()
    place.start()
    place.wait_for({"a.py": "1", "b.py": "1"})
    (place.workdir / "a.py").write_text("typed in VS Code")
    place.wait_for({"a.py": "typed in VS Code", "b.py": "1"})
    wait_until(lambda: place.said()["state"] == "current", message=str(place.said()))
    assert not (place.workdir / ".colabdev" / "code.zip").exists()
    assert place.said()["stored"][2] == "accepted"


def test_a_file_that_never_settles_is_stored_all_the_same(place: Mirrored) -> None:
    place.sync({"a.py": "1"})
    place.ask()
    place.start({**QUICK, "settle_s": 60.0, "limit_s": 0.6})
    place.wait_for({"a.py": "1"})
    begun, number = time.monotonic(), 0
    while len(place.names()) < 2:
        number += 1
        (place.workdir / "a.py").write_text(str(number))
        time.sleep(0.02)
        assert time.monotonic() - begun < 20, place.said()
    assert time.monotonic() - begun >= 0.4


def test_flush_starts_the_mirror_and_stores_at_once(versioned: Mirrored) -> None:
    place = versioned
    place.sync({"a.py": "1"})
    (place.workdir / "a.py").write_text("2")
    last = flush(place)
    assert (last["problem"], last["away"], last["stored"][2]) == ("", [], "accepted")
    assert list(place.whole().values()) == [{"a.py": b"2"}]
    # Nothing changed: nothing is written again.
    before = {name: (place.code / name).stat().st_mtime_ns for name in place.names()}
    assert flush(place)["stored"] == last["stored"]
    assert {name: (place.code / name).stat().st_mtime_ns for name in place.names()} == before


def test_there_is_one_mirror_for_each_work_dir(place: Mirrored) -> None:
    place.sync({"a.py": "1"})
    place.ask()
    first = place.start(PATIENT)
    for _ in range(3):
        assert place.start() == first
    flush(place)
    assert place.daemon() == first


def test_another_version_takes_over(place: Mirrored) -> None:
    place.sync({"a.py": "1"})
    place.ask()
    first = place.start(PATIENT)
    other = Mirrored(place.root / "other", AgentArchive(place.agent.content, "0" * 64, ""))
    # The work dir is the same; only the name of the agent differs.
    (place.root / "other" / "content").symlink_to(place.root / "content")
    other.ask()
    wait_until(lambda: not is_running(first), message="it did not leave")
    second = other.start()
    assert second != first
    assert other.said()["agent"] == f"agent-{'0' * 64}"


def test_mirror_ends_with_its_work_dir(place: Mirrored) -> None:
    place.sync({"a.py": "1"})
    place.ask()
    pid = place.start(PATIENT)
    place.workdir.rename(place.root / "elsewhere")
    wait_until(lambda: not is_running(pid), message="it did not end")


def test_killed_at_any_moment_it_leaves_nothing_that_lies(place: Mirrored) -> None:
    """kill -9 of the daemon and, as when the machine dies, of its child; then it is asked again."""
    chosen = random.Random(5)
    files = {f"{number}.bin": "0" for number in range(5)}
    place.sync(files)
    kills = 0
    for turn in range(12):
        big = chosen.randbytes(3_000_000).hex()
        (place.workdir / "0.bin").write_text(big)
        place.ask()
        place.start(PATIENT)
        time.sleep(chosen.uniform(0, 0.25))
        kills += kill_all(place)
        (place.workdir / "1.bin").write_text(str(turn))
    assert kills >= 12
    last = flush(place)
    assert last["problem"] == "", last
    now = {path.name: path.read_bytes() for path in place.workdir.iterdir() if path.is_file()}
    assert now in place.whole().values()
    assert place.code.joinpath(Path(last["stored"][0]).name).exists()


def kill_all(place: Mirrored) -> int:
    """kill -9 whatever has the mirror of this work dir on its command line."""
    killed = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"mirror" in words and os.fsencode(place.workdir) in words:
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
    return killed


def test_a_torn_archive_of_a_dead_machine_is_not_trusted(place: Mirrored) -> None:
    place.sync({"a.py": "1"})
    name = Path(flush(place)["stored"][0]).name
    kill_all(place)
    (place.workdir / ".colabdev" / "mirror.json").unlink()
    whole = (place.code / name).read_bytes()
    (place.code / name).write_bytes(whole[: len(whole) // 2])
    last = flush(place)
    assert Path(last["stored"][0]).name == name.replace(".zip", "-2.zip")
    assert list(place.whole()) == [Path(last["stored"][0]).name]
    assert (place.code / name).read_bytes() == whole[: len(whole) // 2]


def test_full_drive_is_said_and_tried_again(place: Mirrored) -> None:
    place.sync({"a.bin": os.urandom(400_000)})
    with tiny_disk(place.drive, size_kb=200):
        last = flush(place)
        assert "full" in last["problem"]
        assert last["away"] == []  # It came from the client.
        assert place.names() == []  # What is torn by a full disk does not stay.
        (place.workdir / "a.bin").write_bytes(os.urandom(400_000))
        assert flush(place)["away"] == ["a.bin"]
        assert place.said()["state"] in ("failed", "storing")
        (place.workdir / "a.bin").write_text("small")
        assert flush(place)["problem"] == ""
    assert (place.workdir / "a.bin").read_text() == "small"


def test_failure_is_tried_again_by_itself(place: Mirrored) -> None:
    place.sync({"a.py": "1"})
    place.drive.rmdir()
    place.ask()
    place.start()
    wait_until(lambda: place.said()["state"] == "failed", message=str(place.said()))
    assert place.said()["problem"] == "Drive is not mounted"
    assert not place.drive.exists()
    place.drive.mkdir()
    place.wait_for({"a.py": "1"})
    wait_until(lambda: place.said()["problem"] == "", message=str(place.said()))


def test_read_only_drive_is_said(place: Mirrored) -> None:
    place.sync({"a.py": "1"})
    with read_only_mount(place.drive):
        assert flush(place)["problem"] == "Drive is mounted read-only"
    assert flush(place)["problem"] == ""


def test_drive_that_does_not_answer_holds_up_only_the_store(place: Mirrored) -> None:
    """A FIFO in the archive's place: opening it waits for ever, as a hung mount does."""
    place.sync({"a.py": "1"})
    name = Path(flush(place)["stored"][0]).name
    kill_all(place)
    (place.workdir / ".colabdev" / "mirror.json").unlink()
    (place.code / name).unlink()
    os.mkfifo(place.code / name)
    begun = time.monotonic()
    last = flush(place, timeout_s=1.5)
    assert time.monotonic() - begun < 10
    assert last["problem"] == "Drive did not take it in time"
    assert place.said()["state"] == "storing"
    pid = place.daemon()
    (place.workdir / "a.py").write_text("2")
    wait_until(lambda: place.daemon() == pid, message="it hangs")
    kill_all(place)


def test_large_files_are_named_and_left_out(place: Mirrored) -> None:
    place.sync({"a.py": "1", "large.bin": "1"})
    with (place.workdir / "large.bin").open("r+b") as file:
        file.truncate(201_000_000)
    last = flush(place)
    assert (last["problem"], last["away"], last["away_count"]) == ("", ["large.bin"], 1)
    assert list(place.whole().values()) == [{"a.py": b"1"}]


def test_work_dir_without_files_stores_nothing(place: Mirrored) -> None:
    place.workdir.mkdir(parents=True)
    assert flush(place) == {
        "end": True,
        "stored": None,
        "problem": "",
        "away": [],
        "away_count": 0,
    }
    place.sync({})
    assert flush(place)["problem"] == ""
    assert place.names() == []
