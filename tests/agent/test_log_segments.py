"""A job's log on Drive: sealed pieces while it runs, and the longest true prefix for who comes later."""

from __future__ import annotations

import gzip
import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from colabdev.adapters.agent_archive import AgentArchive
from colabdev.agent.arrival import Patience
from colabdev.agent.jobdir import JobFiles
from colabdev.agent.log_segments import LogTransfer, Segment, chain, parse, reach
from colabdev.agent.store_folder import Disk
from tests.support.carrying import QUICK, Carried
from tests.support.house import is_running
from tests.support.waiting import wait_until

OFTEN = {**QUICK, "log_s": 0.05, "log_much_s": 0.05}


@pytest.fixture
def carried(tmp_path: Path, archive: AgentArchive) -> Iterator[Carried]:
    place = Carried(tmp_path, archive, timing=OFTEN)
    yield place
    place.close()


def kept(place: Carried, known: int = 0) -> tuple[bytes, dict[str, object]]:
    """What a machine that comes later is told of attempt 1: its log from `known` on, and the end."""
    asked = {"drive_dir": str(place.drive), "ids": [place.job], "known": {place.job: {"1": known}}}
    log, end = b"", {}
    for header, body in place.talk().stream("job.kept", **asked):
        if "offset" in header:
            assert header["offset"] == known + len(log)
            log += body
        elif header.get("attempt") == 1:
            end = dict(header)
    return log, end


def folder_of(place: Carried) -> Path:
    return place.stored / "log" / "1"


def test_chain_is_the_longest_prefix_in_few_pieces() -> None:
    a, b, c, d = (Segment(n * 10, n * 10 + 10, 0) for n in range(4))
    whole = Segment(0, 30, 1)
    assert chain([b, a]) == [a, b]
    assert chain([a, c]) == [a]
    assert chain([b, c]) == []
    assert chain([a, b, c, d, whole]) == [whole, d]
    assert chain([a, b, c, d, whole], lambda one: one != whole) == [a, b, c, d]
    # What a kill left overlaps.
    assert chain([a, Segment(0, 15, 0), b, Segment(15, 40, 0)]) == [
        Segment(0, 15, 0),
        Segment(15, 40, 0),
    ]
    assert reach([]) == 0
    assert parse([a.name, "run.json", "1-2-0.gz", "000000000010-000000000010-0.gz"]) == [a]


def test_log_of_a_machine_that_died_is_on_drive_but_for_its_end(carried: Carried) -> None:
    line = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; sleep 1000"
    carried.start(line)
    expected = b"".join(b"line %d\n" % number for number in range(400))
    # The carrier is killed again and again, in the middle of what it does.
    chosen = random.Random(5)
    for _ in range(4):
        pid = carried.carrier()
        wait_until(lambda: reach(parse(names(carried))) > chosen.randrange(600), message="no log")
        os.kill(pid, signal.SIGKILL)
        wait_until(partial(has_ended, pid), message="it lives")
    wait_until(
        lambda: reach(parse(names(carried))) == len(expected), timeout_s=40, message="not all of it"
    )
    log, end = kept(carried)
    assert (log, end["log_bytes"], end.get("records")) == (expected, len(expected), None)
    assert kept(carried, known=1000)[0] == expected[1000:]
    assert kept(carried, known=len(expected))[0] == b""
    # A torn piece, and one whose bytes are others: what comes before is all that is told.
    pieces = chain(parse(names(carried)))
    assert len(pieces) > 1
    place = folder_of(carried) / pieces[1].name
    whole = place.read_bytes()
    place.write_bytes(whole[:-5])
    assert kept(carried)[0] == expected[: pieces[0].end]
    place.write_bytes(whole[:12] + bytes([whole[12] ^ 1]) + whole[13:])
    assert kept(carried)[0] == expected[: pieces[0].end]
    place.write_bytes(gzip.compress(b"other"))
    assert kept(carried)[1]["log_bytes"] == pieces[0].end


def test_end_of_a_job_is_there_with_all_of_its_log(carried: Carried) -> None:
    carried.start("echo first; sleep 1; echo last; exit 3")
    wait_until((folder_of(carried) / "status.json").exists, message="its end is not there")
    log, end = kept(carried)
    assert log == b"first\nlast\n"
    records = end["records"]
    assert isinstance(records, dict)
    assert '"exit_code": 3' in records["status.json"]
    wait_until(lambda: not carried.standing()["runs"], message="its carrier does not end")


def test_pieces_are_rolled_up_and_stay_few(tmp_path: Path) -> None:
    """A log of 300 looks, brought by a transfer that remembers nothing half of the time."""
    (tmp_path / "drive").mkdir()
    (tmp_path / "job").mkdir()
    job = JobFiles(str(tmp_path / "job"))
    transfer = LogTransfer(Disk(str(tmp_path / "drive")), "digits/runs/a/log/1", job, Patience())
    folder = tmp_path / "drive" / "colabdev" / "digits" / "runs" / "a" / "log" / "1"
    trusted: set[str] = set()
    written = b""
    for number in range(300):
        written += b"line %d\n" % number
        Path(job.log).write_bytes(written)
        if number % 2:
            trusted.clear()
        said: list[dict[str, object]] = []
        transfer.bring(trusted, said.append)
        trusted.update(str(one["segment"]) for one in said if "segment" in one)
        assert len(list(folder.iterdir())) < 48
    segments = parse(os.listdir(folder))
    assert reach(segments) == len(written)
    content = b"".join(gzip.decompress((folder / one.name).read_bytes()) for one in chain(segments))
    assert content == written
    assert max(one.tier for one in segments) == 2


def has_ended(pid: int) -> bool:
    return not is_running(pid)


def names(place: Carried) -> list[str]:
    return os.listdir(folder_of(place)) if folder_of(place).exists() else []
