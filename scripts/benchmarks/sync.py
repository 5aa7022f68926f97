"""`colabdev sync` beside `rsync -az` over a multiplexed connection: whole programs, 3,000 files."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Row, alternate
from benchmarks.way import Way, direct, thin
from tests.support.house import House

ROUNDS = 7

FILES = 3000
SEED = 20261120
TARGET = 0.35


def run(rounds: int) -> list[Row]:
    """Nothing changed, one file changed, and the first sync, near and far."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as directory, House(Path(directory)) as house:
        make_tree(house.project, FILES)
        house.connect()
        for place in (direct, thin):
            with place(house) as way:
                rows += _rows(house, way, rounds)
    return rows


def make_tree(root: Path, files: int) -> None:
    """About 5 KB of source-like text each, the same for the same seed."""
    dice = random.Random(SEED)
    words = [f"word{number}" for number in range(2000)]
    for number in range(files):
        folder = root / f"package{number // 50:03d}"
        folder.mkdir(exist_ok=True)
        lines = (" ".join(dice.choices(words, k=10)) for _ in range(dice.randrange(30, 110)))
        (folder / f"module{number:05d}.py").write_text("\n".join(lines) + "\n")


def _rows(house: House, way: Way, rounds: int) -> list[Row]:
    edited = house.project / "package000" / "module00000.py"
    counter = iter(range(1_000_000))

    def edit() -> None:
        edited.write_text(f"# edit {next(counter)} of {way.label}\n" * 50)

    def ours() -> None:
        _sync(house)

    def beside() -> None:
        _rsync(house, way)

    ours()
    beside()
    rows = [_row(f"sync, nothing changed, {way.label}", way, ours, beside, rounds)]

    def ours_edited() -> None:
        edit()
        ours()

    def beside_edited() -> None:
        edit()
        beside()

    title = f"sync, one file changed, {way.label}"
    return [*rows, _row(title, way, ours_edited, beside_edited, rounds)]


def _row(title: str, way: Way, ours: object, beside: object, rounds: int) -> Row:
    assert callable(ours)
    assert callable(beside)
    taken = alternate({"colabdev": ours, "rsync": beside}, rounds)
    return Row(
        f"{title}, {FILES:,} files",
        "colabdev sync",
        "rsync -az, multiplexed",
        taken["colabdev"],
        taken["rsync"],
        TARGET if way.relay else None,  # The budget is for a runtime that is far away.
        wire_bytes=way.wire_bytes(ours),
        beside_wire_bytes=way.wire_bytes(beside),
    )


def _sync(house: House) -> None:
    command = [str(Path(sys.executable).parent / "colabdev"), "sync"]
    subprocess.run(
        command, cwd=house.project, env=house.environment, check=True, capture_output=True
    )


def _rsync(house: House, way: Way) -> None:
    *ssh, host = way.master
    shell = " ".join(ssh)
    command = ["rsync", "-az", "--delete", "-e", shell, f"{house.project}/", f"{host}:rsynced/"]
    subprocess.run(command, env=dict(os.environ), check=True, capture_output=True)
