"""What the PyTorch template costs beside a loop written by hand, beside Lightning, and when it saves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import NotRun, Row

ROUNDS = 15
CHECKOUT = Path(__file__).parents[2]
NO_GPU = [
    NotRun(f"the PyTorch template on a GPU, {what}", "no GPU here")
    for what in ("fp32", "with AMP", "exact resume")
]


def run(rounds: int) -> list[Row | NotRun]:
    """On this computer's CPU; where PyTorch finds a GPU also there, with and without mixed precision."""
    places = _measure(rounds)
    rows = [row for name, found in places.items() for row in _rows(name, found)]
    return rows if len(places) > 1 else [*rows, *NO_GPU]


def _rows(place: str, found: Mapping[str, Any]) -> list[Row]:
    rows = []
    for at, clock in enumerate(("seconds of one CPU", "on the wall")):
        title = f"template, two epochs of digits, {clock}"
        ours, bare = ([both[at] for both in found[side]] for side in ("ours", "bare"))
        rows.append(Row(title, place, "a bare loop", ours, bare, 1.05))
        if found["lightning"]:
            lightning = [both[at] for both in found["lightning"]]
            rows.append(Row(title, place, "Lightning", ours, lightning))
    return [
        *rows,
        Row("stall per checkpoint, 256 MB", place, "torch.save and fsync", found["stall"],
            found["plain_stall"], 0.5),
        Row("10 s of steps with a save of 256 MB among them", place, "without one", found["saving"],
            found["not_saving"], 1.05),
        Row("resume, 256 MB, hashes verified", place, "torch.load", found["resume"],
            found["plain_resume"]),
        Row("ends after a resume as without", place, "bit for bit", found["equal"], [1.0],
            unit="of 1"),
    ]  # fmt: skip


def _measure(rounds: int) -> dict[str, dict[str, Sequence[Any]]]:
    python = subprocess.run(
        [CHECKOUT / "scripts" / "torch-venv"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.rstrip("\n")
    measured = subprocess.run(
        [
            python,
            CHECKOUT / "scripts/template_loops.py",
            CHECKOUT / "templates/pytorch",
            str(rounds),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, Sequence[Any]]] = json.loads(measured.stdout)
    return found
