"""`colabdev run` to the job's first byte, beside ssh cold and multiplexed: whole programs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Row, alternate
from benchmarks.way import Way, direct, thin
from tests.support.house import House

ROUNDS = 9

SCRIPT = "print('first', flush=True)\n"


def run(rounds: int) -> list[Row]:
    """Near and far."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as directory, House(Path(directory)) as house:
        (house.project / "first.py").write_text(SCRIPT)
        house.connect()
        for place in (direct, thin):
            with place(house) as way:
                rows += _rows(house, way, rounds)
    return rows


def _rows(house: House, way: Way, rounds: int) -> list[Row]:
    colabdev = [str(Path(sys.executable).parent / "colabdev"), "run", "first.py"]
    on_runtime = f"python3 -c {_quoted(SCRIPT)}"

    def ours() -> float:
        return _first_byte(colabdev, house.project, house.environment)

    def multiplexed() -> float:
        return _first_byte([*way.master, on_runtime], house.project, house.environment)

    def cold() -> float:
        return _first_byte([*way.ssh, on_runtime], house.project, house.environment)

    taken = alternate({"ours": ours, "multiplexed": multiplexed, "cold": cold}, rounds)
    wire = way.wire_bytes(ours)
    return [
        Row(
            f"start to first byte, {way.label}",
            "colabdev run",
            f"ssh {beside}",
            taken["ours"],
            taken[beside],
            target if way.relay else None,  # The budget is for a runtime that is far away.
            wire_bytes=wire,
            beside_wire_bytes=way.wire_bytes(work),
        )
        for beside, work, target in (("multiplexed", multiplexed, 1.3), ("cold", cold, 0.5))
    ]


def _first_byte(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> float:
    """Seconds from the program's start to the first byte of the job's output on its stdout."""
    begun = time.perf_counter()
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as program:
        assert program.stdout is not None
        first = program.stdout.read(1)
        taken_s = time.perf_counter() - begun
        program.stdout.read()
    assert first == b"f", f"{command[0]} did not run the job"
    return taken_s


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
