"""What differs between two runs."""

from pathlib import Path
from typing import Any

from torch import Tensor, equal

import checkpoint

# What is not part of the training: which attempt wrote it.
NOT_COMPARED = {".attempt"}


def differences(one: Path, two: Path) -> list[str]:
    """The keys of two runs' newest states that differ in a bit, and their files of metrics."""
    states = [checkpoint.resume(folder / "checkpoints") for folder in (one, two)]
    found = sorted(set(compared("", *states)) - NOT_COMPARED)
    if (one / "metrics.jsonl").read_bytes() != (two / "metrics.jsonl").read_bytes():
        found.append("metrics.jsonl")
    return found


def compared(name: str, one: Any, two: Any) -> list[str]:
    if isinstance(one, Tensor):
        same = isinstance(two, Tensor) and one.dtype == two.dtype and equal(one, two)
        return [] if same else [name]
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return [key for at in one for key in compared(f"{name}.{at}", one[at], two[at])]
    if isinstance(one, (list, tuple)) and isinstance(two, type(one)) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [key for at, pair in pairs for key in compared(f"{name}.{at}", *pair)]
    return [] if one == two else [name]
