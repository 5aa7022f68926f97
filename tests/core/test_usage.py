"""What a runtime says of a job's use is believed only as far as it makes sense."""

from __future__ import annotations

from typing import Any

import pytest

from colabdev.core.usage import describe_room, describe_usage, parse_rows

ROW = {
    "time": 1.0,
    "cpu_percent": 98.4,
    "memory_bytes": 1_200_000_000,
    "machine_memory_available_bytes": 3_000_000_000,
    "disk_free_bytes": 20_100_000_000,
    "gpus": [
        {
            "name": "Tesla T4",
            "percent": 87,
            "memory_bytes": 3_100_000_000,
            "memory_total_bytes": 15_800_000_000,
        }
    ],
}


def test_row_in_words() -> None:
    assert describe_usage(ROW) == "cpu 98 %, 1.2 GB, gpu 87 %, 3.1 GB of 15.8 GB"
    assert describe_room(ROW) == "memory 3.0 GB free, disk 20.1 GB free"


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"cpu_percent": None, "memory_bytes": None, "gpus": []},
        {"cpu_percent": "98", "memory_bytes": True, "gpus": [1, {"percent": -1}]},
        {"cpu_percent": 1e300, "memory_bytes": float("nan"), "gpus": {"percent": 1}},
    ],
)
def test_nothing_is_invented(row: dict[str, Any]) -> None:
    assert describe_usage(row) == ""
    assert describe_room(row) == ""


def test_torn_line_is_no_row() -> None:
    assert parse_rows(['{"time": 1}', "[1]", '{"time": ']) == [{"time": 1}]
