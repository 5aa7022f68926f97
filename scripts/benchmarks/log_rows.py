"""A job's log beside what people use instead: latency, throughput, and back after a cut."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

from benchmarks.measure import Row, against_limit, alternate
from benchmarks.way import RTT_S, Way
from tests.support.house import House
from tests.support.jobs import job_directory

COLABDEV = str(Path(sys.executable).parent / "colabdev")
LINES = 40
"""In one round; each is printed 50 ms after the one before."""
BULK_BYTES = 200_000_000

_TICKER = """
import time
while True:
    print(time.time(), flush=True)
    time.sleep(0.05)
"""
_BULK = f"import os\nfor _ in range({BULK_BYTES // 100_000}): os.write(1, b'x' * 99_999 + b'\\n')"


@dataclass
class _Reader:
    """A command that follows lines, each the time at which it was printed."""

    command: Sequence[str]
    house: House
    behind_s: list[float] = field(default_factory=list)
    heard_at: float = 0.0

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            self.command,
            cwd=self.house.project,
            env=self.house.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.heard_at = time.time()
            self.behind_s.append(self.heard_at - float(line))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def latency(house: House, way: Way, rounds: int) -> list[Row]:
    """Both follow the same lines of the same job, so every line is a pair."""
    job_id = _detached(house, "python3", "-c", _TICKER)
    log = job_directory(house, job_id) / "log"
    readers = [
        _Reader([COLABDEV, "logs", "-f", job_id], house),
        _Reader([*way.master, f"tail -n +1 -F {log}"], house),
    ]
    try:
        for reader in readers:
            _wait_for(reader, 20)  # What was printed before it came is no latency.
            reader.behind_s.clear()
        for reader in readers:
            _wait_for(reader, LINES * rounds)
    finally:
        for reader in readers:
            reader.close()
        _typed(house, "stop", job_id, "--grace", "0")
    percentiles = [
        [
            quantiles(reader.behind_s[at : at + LINES], n=20)
            for at in range(0, LINES * rounds, LINES)
        ]
        for reader in readers
    ]
    return [
        Row(
            f"a line printed to a line read, {name}, {way.label}",
            "colabdev logs -f",
            "tail -F over ssh, multiplexed",
            [round_[index] for round_ in percentiles[0]],
            [round_[index] for round_ in percentiles[1]],
            target,
        )
        for name, index, target in (("p50", 9, 1.1), ("p95", 18, None))
    ]


def throughput(house: House, way: Way, rounds: int) -> list[Row]:
    """A job that prints 200 MB, all of which is read."""

    def ours() -> None:
        _read_all([COLABDEV, "run", "python3", "-c", _BULK], house)

    def multiplexed() -> None:
        _read_all([*way.master, f'python3 -c "{_BULK}"'], house)

    taken = alternate({"ours": ours, "multiplexed": multiplexed}, rounds)
    title = f"a job that prints {BULK_BYTES // 1_000_000} MB, {way.label}"
    beside = "ssh, multiplexed"
    return [Row(title, "colabdev run", beside, taken["ours"], taken["multiplexed"])]


def reattach(house: House, way: Way, rounds: int) -> list[Row]:
    """From a cut to the first line read that was printed after it."""
    assert way.relay is not None
    job_id = _detached(house, "python3", "-c", _TICKER)
    reader = _Reader([COLABDEV, "logs", "-f", job_id], house)
    taken = []
    try:
        _wait_for(reader, 20)
        for _ in range(rounds):
            cut_at = time.time()
            way.relay.do("cut")
            while reader.heard_at - reader.behind_s[-1] < cut_at:
                time.sleep(0.005)
            taken.append(reader.heard_at - cut_at)
            time.sleep(1)
    finally:
        reader.close()
        _typed(house, "stop", job_id, "--grace", "0")
    limit = 1 + 2 * RTT_S
    return [against_limit(f"a follower after a cut, {way.label}", "logs -f", taken, limit)]


def _wait_for(reader: _Reader, lines: int) -> None:
    deadline = time.monotonic() + 30 + lines / 10
    while len(reader.behind_s) < lines:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{reader.command[0]} shows no lines")
        time.sleep(0.05)


def _detached(house: House, *command: str) -> str:
    return _typed(house, "run", "--detach", *command).strip()


def _typed(house: House, *words: str) -> str:
    done = house.colabdev(*words)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout


def _read_all(command: Sequence[str], house: House) -> None:
    environment: Mapping[str, str] = {**os.environ, **house.environment}
    with subprocess.Popen(
        command,
        cwd=house.project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:
        assert program.stdout is not None
        size = 0
        while piece := program.stdout.read(1 << 20):
            size += len(piece)
    if size != BULK_BYTES:
        raise RuntimeError(f"{command[0]} gave {size} bytes")
