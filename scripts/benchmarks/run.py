"""`colabdev run` and what comes of it, beside ssh, Fabric and tail: whole programs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import fidelity, log_rows
from benchmarks.fabric_way import fabric_command
from benchmarks.measure import Round, Row, alternate
from benchmarks.way import Way, direct, thin
from tests.support.house import House

ROUNDS = 9

SCRIPT = "print('first', flush=True)\n"


def run(rounds: int) -> list[Row]:
    """Near and far. What takes long is done fewer times."""
    rows: list[Row] = []
    few = max(rounds // 3, 1)
    with tempfile.TemporaryDirectory() as directory, House(Path(directory)) as house:
        (house.project / "first.py").write_text(SCRIPT)
        house.connect()
        for place in (direct, thin):
            with place(house) as way:
                fabric = fabric_command(house)
                rows += _rows(house, way, fabric, rounds)
                rows += log_rows.latency(house, way, few)
                if way.relay:
                    rows += log_rows.reattach(house, way, rounds)
                else:
                    rows += log_rows.throughput(house, way, few)
                    rows += fidelity.submissions(house, way)
                    rows += fidelity.exit_codes(house, way, fabric)
    return rows


def _rows(house: House, way: Way, fabric: Sequence[str], rounds: int) -> list[Row]:
    colabdev = [str(Path(sys.executable).parent / "colabdev"), "run", "first.py"]
    on_runtime = f"python3 -c {_quoted(SCRIPT)}"

    def ours() -> float:
        return _first_byte(colabdev, house.project, house.environment)

    def multiplexed() -> float:
        return _first_byte([*way.master, on_runtime], house.project, house.environment)

    def cold() -> float:
        return _first_byte([*way.ssh, on_runtime], house.project, house.environment)

    def without_keeper() -> float:
        house.end_keeper()
        return ours()

    def with_fabric() -> float:
        return _first_byte([*fabric, on_runtime], house.project, house.environment)

    ways: dict[str, Round] = {
        "ours": ours,
        "multiplexed": multiplexed,
        "cold": cold,
        "without keeper": without_keeper,
    }
    if fabric:
        ways["Fabric"] = with_fabric
    taken = alternate(ways, rounds)
    wire = way.wire_bytes(ours)
    warm = [
        Row(
            f"start to first byte, {way.label}",
            "colabdev run",
            name,
            taken["ours"],
            taken[beside],
            target if way.relay else None,  # The budget is for a runtime that is far away.
            wire_bytes=wire,
            beside_wire_bytes=way.wire_bytes(work),
        )
        for beside, name, work, target in (
            ("multiplexed", "ssh multiplexed", multiplexed, 1.3),
            ("cold", "ssh cold", cold, 0.5),
            ("Fabric", "Fabric", with_fabric, None),
        )
        if beside in ways
    ]
    title = f"start to first byte, no keeper yet, {way.label}"
    return [*warm, Row(title, "colabdev run", "ssh cold", taken["without keeper"], taken["cold"])]


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
