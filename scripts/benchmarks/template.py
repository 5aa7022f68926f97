"""What the PyTorch template costs beside a loop written by hand, beside Lightning, and when it saves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Row

ROUNDS = 15
CHECKOUT = Path(__file__).parents[2]
WHAT = "two epochs of digits, seconds of one CPU"


def run(rounds: int) -> list[Row]:
    """On this computer's CPU. With a GPU nothing was measured yet, and neither with mixed precision."""
    found = _measure(rounds)
    rows = [
        Row("template", WHAT, "a bare loop", found["ours"], found["bare"], 1.05),
        Row("stall per checkpoint", "256 MB", "torch.save and fsync", found["stall"],
            found["plain_stall"], 0.5),
        Row("800 steps with a save among them", "256 MB", "without one", found["saving"],
            found["not_saving"], 1.05),
        Row("resume", "256 MB, hashes verified", "torch.load", found["resume"],
            found["plain_resume"]),
    ]  # fmt: skip
    if found["lightning"]:
        rows.insert(1, Row("template", WHAT, "Lightning", found["ours"], found["lightning"]))
    return rows


def _measure(rounds: int) -> dict[str, Sequence[float]]:
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
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    found: dict[str, Sequence[float]] = json.loads(measured.stdout)
    return found
