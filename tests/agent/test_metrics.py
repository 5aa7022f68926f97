"""What a job takes of its machine, sampled beside it."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from colabdev.agent import processes
from tests.agent.test_jobs import PYTHONS, Bench, make_bench
from tests.support.waiting import wait_until

BUSY = """
import os
x = bytearray(50_000_000)
open("busy.part", "w").write(str(os.getpid()))
os.rename("busy.part", "busy")
while True: pass
"""
STEP = '{"step": 7, "loss": 0.5, "total_steps": 90}'
SMI = """#!/bin/sh
echo called >> {calls}
echo 'Tesla T4, 87, 1024, 15360'
echo 'Odd GPU, [N/A], [N/A], 2048'
"""


@pytest.fixture(params=sorted(PYTHONS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench = make_bench(tmp_path, PYTHONS[request.param])
    yield bench
    bench.close()


def samplers(bench: Bench, job_id: object) -> list[int]:
    """The sampler's process, if it runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"sample" in words and str(bench.jobs / str(job_id)).encode() in words:
            found.append(int(path.parent.name))
    return found


def cpu_s(pid: int) -> float:
    """What the process took of a core so far."""
    fields = processes.stat_of(pid)
    assert fields is not None, "it has ended"
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def first_row(bench: Bench, job_id: object, since: float = 0.0) -> dict[str, Any]:
    """The first that there is, of those that are from after `since`."""

    def metrics() -> Any:
        row = bench.talk().request("job.status", id=job_id)["status"]["metrics"]
        return row if row and row["time"] > since else None

    row: dict[str, Any] = wait_until(metrics, timeout_s=20, message="a row is there")
    return row


def test_row_tells_what_the_job_takes_and_what_is_left(bench: Bench) -> None:
    calls = bench.root / "calls"
    smi = bench.root / "bin" / "nvidia-smi"
    smi.write_text(SMI.format(calls=shlex.quote(str(calls))))
    smi.chmod(0o755)
    # The work is a child's, and the child of a child's that has ended.
    line = f"echo '{STEP}' > steps.jsonl; (python3 -c {shlex.quote(BUSY)} &) ; exec sleep 60"
    spec = {**bench.shell(line), "progress": {"file": "*.jsonl", "steps": None}}
    bench.talk().request("job.start", spec=spec)
    busy = bench.workdir / "busy"
    wait_until(busy.exists, timeout_s=20, message="the child works")
    begun, spent_s = time.monotonic(), cpu_s(int(busy.read_text()))
    # A row of before, or of mostly before, is of an interpreter that starts.
    row = first_row(bench, spec["id"], since=busy.stat().st_mtime + 1)
    given_s = cpu_s(int(busy.read_text())) - spent_s
    given_percent = 100 * given_s / (time.monotonic() - begun)
    assert given_percent / 2 < row["cpu_percent"] < 120, "what others leave it of one core"
    assert 50_000_000 < row["memory_bytes"] < 150_000_000
    assert 0 < row["machine_memory_available_bytes"] < row["machine_memory_bytes"]
    assert 0 < row["disk_free_bytes"] <= row["disk_bytes"]
    assert abs(row["time"] - time.time()) < 20
    assert row["gpus"] == [
        {
            "name": "Tesla T4",
            "percent": 87,
            "memory_bytes": 1024 << 20,
            "memory_total_bytes": 15360 << 20,
        },
        {
            "name": "Odd GPU",
            "percent": None,
            "memory_bytes": None,
            "memory_total_bytes": 2048 << 20,
        },
    ]
    told = bench.talk().request("job.status", id=spec["id"])["status"]["progress"]
    ((seen, step),) = told["marks"]
    assert (step, told["total"]) == (7, 90)
    assert abs(told["time"] - time.time()) < 20
    assert 0 <= told["time"] - seen < 60
    (sampler,) = samplers(bench, spec["id"])
    status = bench.talk().request("job.stop", id=spec["id"], grace_s=5)["status"]
    assert status["state"] == "stopped"
    assert (status["metrics"], status["progress"]) == (None, None)
    assert processes.identify(sampler)["start"] is None, "it ends with the job"
    lines = (bench.jobs / str(spec["id"]) / "metrics.jsonl").read_text().splitlines()
    assert row in map(json.loads, lines)


def test_no_gpu_is_invented_and_the_sampler_outlives_its_supervisor(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, Path(sys.executable))
    spec = bench.spec("sleep", "60")
    bench.talk().request("job.start", spec=spec)
    pid = bench.pid(spec)
    wait_until(lambda: samplers(bench, spec["id"]), message="it is sampled")
    processes.kill({int(pid["supervisor"]["pid"])})
    assert first_row(bench, spec["id"])["gpus"] == []
    bench.close()


def test_short_job_is_not_sampled(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, Path(sys.executable))
    spec = bench.shell("exit 0")
    bench.finish(spec)
    assert not (bench.jobs / str(spec["id"]) / "metrics.jsonl").exists()
    bench.close()
