"""Why jobs end: what the kernel, the disk and nobody says, each told apart."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from colabdev.agent import endings, jobdir
from tests.agent.test_jobs import Bench, make_bench
from tests.support.disks import fill, tiny_disk
from tests.support.memory import limited_memory

GREEDY = "x = bytearray(300_000_000); print(len(x))"
LIMIT_BYTES = 60_000_000


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = make_bench(tmp_path, Path(sys.executable))
    yield bench
    bench.close()


def test_job_that_the_kernel_killed_for_memory_says_so(bench: Bench) -> None:
    with limited_memory(limit_bytes=LIMIT_BYTES) as members:
        line = f"echo $$ > {members}; exec python3 -c '{GREEDY}'"
        _, status = bench.finish(bench.shell(line))
    assert (status["state"], status["signal"]) == ("failed", 9)
    assert status["reason"] == jobdir.OUT_OF_MEMORY


def test_job_whose_worker_was_killed_for_memory_says_so(bench: Bench) -> None:
    with limited_memory(limit_bytes=LIMIT_BYTES) as members:
        talk = bench.talk()
        members.write_text(str(talk.pid))
        spec = bench.shell(f"python3 -c '{GREEDY}' || exit 3")
        talk.request("job.start", spec=spec, follow=True)
        _, status = talk.rest()
        talk.process.close()
    assert (status["exit_code"], status["reason"]) == (3, jobdir.OUT_OF_MEMORY)


@pytest.mark.parametrize("line", ["kill -9 $$", "exit 137", "exit 1", "true"])
def test_other_ends_have_no_reason(bench: Bench, line: str) -> None:
    assert bench.finish(bench.shell(line))[1]["reason"] is None


def test_stopped_job_was_not_killed_for_memory(bench: Bench) -> None:
    with limited_memory(limit_bytes=LIMIT_BYTES) as members:
        line = f"echo $$ > {members}; python3 -c '{GREEDY}'; echo; exec sleep 60"
        spec = bench.shell(line)
        talk = bench.talk()
        talk.request("job.start", spec=spec, follow=True)
        while b"\n" not in talk.next()[1]:
            pass
        status = bench.talk().request("job.stop", id=spec["id"], grace_s=5)["status"]
        talk.rest()
    assert (status["state"], status["reason"]) == ("stopped", None)


def test_job_that_failed_on_a_full_disk_says_so(bench: Bench) -> None:
    bench.jobs.parent.mkdir()
    with tiny_disk(bench.jobs.parent, size_kb=400):
        _, status = bench.finish(bench.shell("dd if=/dev/zero bs=1k count=2000; exit 9"))
    assert (status["exit_code"], status["reason"]) == (9, jobdir.DISK_FULL)


def test_job_that_goes_on_without_room_for_its_log_is_ended(bench: Bench) -> None:
    """It ignores that it cannot write. That it is full is told at once, then it is ended."""
    bench.jobs.parent.mkdir()
    with tiny_disk(bench.jobs.parent, size_kb=400):
        talk = bench.talk()
        line = "trap 'exit 5' TERM; while :; do echo 0123456789abcdef; done 2>/dev/null"
        talk.request("job.start", spec=bench.shell(line), follow=True)
        begun, told_after = time.monotonic(), None
        while "status" not in (header := talk.next()[0]):
            if header.get("note") == jobdir.DISK_FULL:
                told_after = time.monotonic() - begun
        status = header["status"]
    assert told_after is not None
    assert told_after < 4
    assert (status["state"], status["exit_code"], status["reason"]) == ("failed", 5, "disk_full")
    assert time.monotonic() - begun < endings.PATIENCE_S + 6


def test_disk_guard_lets_a_job_be_that_makes_room_again(tmp_path: Path) -> None:
    with tiny_disk(tmp_path, size_kb=200) as disk:
        guard = endings.DiskGuard(str(disk))
        assert not guard.is_due(0)
        fill(disk / "checkpoint")
        assert not guard.is_due(1)
        assert not guard.is_due(10.9)
        assert guard.is_due(11)
        (disk / "checkpoint").unlink()
        assert not guard.is_due(12)
        fill(disk / "checkpoint")
        assert not guard.is_due(21)
        assert guard.is_due(31)
