"""What a job takes of its machine, in a few words; what its sampler did not tell is left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from colabdev.core.sizes import format_size

Row = Mapping[str, object]
"""A row of `metrics.jsonl` (agent/sampler.py), as a runtime sent it."""


def parse_rows(lines: Iterable[str]) -> list[Row]:
    """The rows of a `metrics.jsonl`; a line that is none, as a kill may leave one, is left out."""
    rows: list[Row] = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def time_of(row: Row) -> float:
    """When it was sampled, in seconds since 1970; 0 when it does not say."""
    return _number(row, "time") or 0.0


def describe_usage(row: Row) -> str:
    """`cpu 98 %, 1.2 GB, gpu 87 %, 3.1 of 15.8 GB`."""
    return ", ".join([*_of_processes(row), *(text for gpu in _gpus(row) for text in _of_gpu(gpu))])


def describe_room(row: Row) -> str:
    """`memory 3.1 GB free, disk 20.1 GB free`."""
    named = (("memory", "machine_memory_available_bytes"), ("disk", "disk_free_bytes"))
    found = ((what, _number(row, key)) for what, key in named)
    return ", ".join(f"{what} {format_size(int(n))} free" for what, n in found if n is not None)


def _of_processes(row: Row) -> Iterator[str]:
    if (cpu := _number(row, "cpu_percent")) is not None:
        yield f"cpu {cpu:.0f} %"
    if (memory := _number(row, "memory_bytes")) is not None:
        yield format_size(int(memory))


def _of_gpu(gpu: Row) -> Iterator[str]:
    percent = _number(gpu, "percent")
    used, total = _number(gpu, "memory_bytes"), _number(gpu, "memory_total_bytes")
    if percent is not None:
        yield f"gpu {percent:.0f} %"
    if used is not None and total is not None:
        yield f"{format_size(int(used))} of {format_size(int(total))}"


def _gpus(row: Row) -> Iterator[Row]:
    gpus = row.get("gpus")
    return (gpu for gpu in gpus if isinstance(gpu, Mapping)) if isinstance(gpus, list) else iter(())


def _number(row: Row, key: str) -> float | None:
    value = row.get(key)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and 0 <= value < 1e18 else None  # type: ignore[operator,return-value]
