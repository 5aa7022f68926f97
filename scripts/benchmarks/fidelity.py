"""Many submissions, and whose exit codes arrive."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measure import Row
from benchmarks.way import Way
from tests.support.house import House
from tests.support.jobs import listed

COLABDEV = str(Path(sys.executable).parent / "colabdev")
SUBMISSIONS = 100

ENDINGS = {
    0: "exit 0",
    1: "exit 1",
    7: "exit 7",
    126: "exec /etc/passwd",
    127: "exec no-such-program",
    130: "kill -INT $$",
    137: "kill -KILL $$",
    143: "kill -TERM $$",
}
"""What the user is to see, and a shell line that ends so."""


def submissions(house: House, way: Way) -> list[Row]:
    """One after the other, as a shell loop does; all of ours must be known afterwards."""

    def ours() -> float:
        return _each([COLABDEV, "run", "--detach", "--name", "many", "true"], house)

    def multiplexed() -> float:
        return _each([*way.master, "nohup true > /dev/null 2>&1 &"], house)

    row = Row(
        f"{SUBMISSIONS} submissions in a row, {way.label}",
        "colabdev run --detach",
        "ssh … nohup, multiplexed",
        [ours()],
        [multiplexed()],
    )
    known = [job for job in listed(house) if job["name"] == "many"]
    if len(known) != SUBMISSIONS:
        raise RuntimeError(f"{len(known)} of {SUBMISSIONS} jobs are known")
    return [row]


def exit_codes(house: House, way: Way, fabric: Sequence[str]) -> list[Row]:
    """How many of the endings the caller is told as a shell would tell them."""

    def ours(line: str) -> int:
        return _code([COLABDEV, "run", "--no-sync", "sh", "-c", line], house)

    def ssh(line: str) -> int:
        return _code([*way.master, line], house)

    def with_fabric(line: str) -> int:
        return _code([*fabric, line], house)

    tools: dict[str, Callable[[str], int]] = {"ssh HOST LINE": ssh}
    if fabric:
        tools["Fabric"] = with_fabric
    right = float(_right(ours))
    return [
        Row(
            f"exit codes that arrive, of {len(ENDINGS)}, {way.label}",
            "colabdev run",
            name,
            [right],
            [float(_right(tool))],
            unit="codes",
        )
        for name, tool in tools.items()
    ]


def _right(tool: Callable[[str], int]) -> int:
    return sum(tool(line) == code for code, line in ENDINGS.items())


def _each(command: Sequence[str], house: House) -> float:
    begun = time.perf_counter()
    for _ in range(SUBMISSIONS):
        if _code(command, house) != 0:
            raise RuntimeError(f"{command[0]} failed")
    return time.perf_counter() - begun


def _code(command: Sequence[str], house: House) -> int:
    return subprocess.run(
        command,
        cwd=house.project,
        env=house.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    ).returncode
